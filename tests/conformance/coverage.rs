//! That the table of cases is complete.
use crate::rule::Rule;
use coracle_tests::*;

cases![no_case_twice];

fn rules() -> impl Iterator<Item = &'static Rule> {
    super::AREAS.iter().flat_map(|area| area.rules)
}

fn no_case_twice(_: &T) {
    let mut names: Vec<&str> = crate::rule::cases().iter().map(|case| case.name).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for rule in rules() {
        let keyword =
            ["MUST", "SHOULD", "MAY", "REQUIRED", "OPTIONAL"].iter().any(|word| rule.says.contains(word));
        assert!(keyword && rule.at.contains(".md"), "{}: {}", rule.at, rule.says);
    }
}
