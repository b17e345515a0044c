//! Versions of the specification.
//!
//! For: `ociVersion`: every minor version of major version 1 is taken, newer ones too, because they only add things
//! (spec.md). Must not: compare with what we know. Tests: at the end of the file.

use super::report::{Place, Report, shown};

pub(super) fn oci_version(version: &str, at: &Place<'_>, report: &mut Report) {
    match major(version) {
        Some("1") => {}
        Some(_) => {
            let message = format!("expects a version 1.x of the specification, found {}", shown(version));
            report.refuse(at, "oci-version", message);
        }
        None => {
            let message = format!("expects a version like 1.2.0, found {}", shown(version));
            report.refuse(at, "oci-version", message);
        }
    }
}

/// The major version of a text that follows SemVer 2.0.0.
fn major(version: &str) -> Option<&str> {
    let (version, build) = version.split_once('+').map_or((version, None), |(v, b)| (v, Some(b)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(c, p)| (c, Some(p)));
    let mut numbers = core.split('.');
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let good = numbers.next().is_none()
        && [major, minor, patch].into_iter().all(number)
        && pre.is_none_or(|pre| identifiers(pre, |word| !digits(word) || number(word)))
        && build.is_none_or(|build| identifiers(build, |_| true));
    good.then_some(major)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> bool {
    !text.is_empty() && digits(text) && (text == "0" || !text.starts_with('0'))
}

fn identifiers(text: &str, rule: fn(&str) -> bool) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split('.').all(|part| word(part) && rule(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, expected) in [
            ("1.0.0", Some("1")),
            ("1.3.0", Some("1")),
            ("1.99.12", Some("1")),
            ("1.0.0-rc5", Some("1")),
            ("1.0.2-dev", Some("1")),
            ("1.0.0-rc.1.0", Some("1")),
            ("1.2.1+dev", Some("1")),
            ("1.2.0-alpha-1+build.007", Some("1")),
            ("2.0.0", Some("2")),
            ("0.6.0", Some("0")),
            ("11.0.0", Some("11")),
            ("", None),
            ("1", None),
            ("1.0", None),
            ("1.0.0.0", None),
            ("1.0.", None),
            ("v1.0.0", None),
            ("01.0.0", None),
            ("1.00.0", None),
            ("1.0.0-", None),
            ("1.0.0-01", None),
            ("1.0.0-a..b", None),
            ("1.0.0+", None),
            ("1.0.0-a_b", None),
            ("1.0.0 ", None),
            ("abc", None),
            ("-1.0.0", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}
