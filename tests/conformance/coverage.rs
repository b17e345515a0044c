//! That no property of the specification's Linux part is without a case.
use crate::rule::Rule;
use coracle_tests::*;

cases![every_property_has_a_case, no_case_twice];

/// Properties without a case, and why.
const WITHOUT: &[(&str, &str)] = &[];

fn rules() -> impl Iterator<Item = &'static Rule> {
    crate::rule::all().map(|(_, rule)| rule)
}

fn every_property_has_a_case(_: &T) {
    // A list or map of plain values is one property.
    let known: Vec<String> =
        coracle::spec::known_keys().iter().map(|key| key.trim_end_matches("/*").to_owned()).collect();
    let looked_at: Vec<&str> = rules().flat_map(|rule| rule.fields).copied().collect();
    let covered = |key: &str| {
        looked_at.iter().any(|field| field.trim_end_matches("/*") == key)
            || WITHOUT.iter().any(|(field, _)| *field == key)
    };
    let missing: Vec<&String> = known.iter().filter(|key| !covered(key)).collect();
    assert!(missing.is_empty(), "properties without a case: {missing:#?}");
    // What cases name exists: a property, or an object that has some.
    for field in &looked_at {
        let name = field.trim_end_matches("/*");
        let exists = known.iter().any(|key| key == name || key.starts_with(&format!("{name}/")));
        assert!(exists, "{field} is no property");
    }
    for (field, reason) in WITHOUT {
        let needed = known.iter().any(|key| key == field) && !looked_at.contains(field);
        assert!(needed && !reason.is_empty(), "{field} needs no exception");
    }
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
