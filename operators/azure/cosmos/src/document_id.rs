//! The mapping from a value to a document id that the service takes.
//!
//! | value | in the id |
//! |---|---|
//! | `/` `\` `?` `#` (not allowed, or troublesome in links) | `~2F` `~5C` `~3F` `~23` |
//! | control characters | `~` and two hexadecimal digits |
//! | a space at the end (some clients trim it) | `~20` |
//! | `~` itself | `~7E` |
//! | `.` and `..`, alone (steps of a path, which clients resolve) | `~2E` `~2E~2E` |
//! | everything else | as it is |
//!
//! Different values have different ids. An id has 1 to 1023 bytes (Azure Cosmos DB service
//! quotas, "Per-item limits"); a value beyond that is refused, never shortened.

/// Most bytes an id may have.
pub(crate) const ID_BYTES_MAX: usize = 1023;

/// Why a value is no document id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadId {
    Empty,
    TooLong,
}

/// Appends the id for `value` to `out`, which is as it was if the value is refused.
pub(crate) fn append(value: &str, out: &mut String) -> Result<(), BadId> {
    if value.is_empty() {
        return Err(BadId::Empty);
    }
    let start = out.len();
    let step = matches!(value, "." | "..");
    let last = value.len() - 1;
    for (at, character) in value.char_indices() {
        let escaped = matches!(character, '/' | '\\' | '?' | '#' | '~')
            || character.is_ascii_control()
            || (character == ' ' && at == last)
            || step;
        if escaped {
            out.push_str(&format!("~{:02X}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    if out.len() - start > ID_BYTES_MAX {
        out.truncate(start);
        return Err(BadId::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{BadId, append};

    fn id(value: &str) -> Result<String, BadId> {
        let mut out = String::new();
        append(value, &mut out).map(|()| out)
    }

    #[test]
    fn ids_are_escaped_as_documented() {
        assert_eq!(id("bus/7 #2?"), Ok("bus~2F7 ~232~3F".to_owned()));
        assert_eq!(id("a~2Fb"), Ok("a~7E2Fb".to_owned()));
        assert_eq!(id(".."), Ok("~2E~2E".to_owned()));
        assert_eq!(id("..."), Ok("...".to_owned()));
        assert_eq!(id("tail "), Ok("tail~20".to_owned()));
        assert_eq!(id("a\u{7f}\n"), Ok("a~7F~0A".to_owned()));
        assert_eq!(id("Zürich 100%"), Ok("Zürich 100%".to_owned()));
        assert_eq!(id(""), Err(BadId::Empty));
        assert_eq!(id(&"x".repeat(1024)), Err(BadId::TooLong));
        assert_eq!(id(&"/".repeat(342)), Err(BadId::TooLong));
    }

    proptest! {
        #[test]
        fn different_values_have_different_ids(values in prop::collection::vec("[a~/ 27FEC#.]{1,6}", 1..40)) {
            let mut seen: HashMap<String, &String> = HashMap::new();
            for value in &values {
                let id = id(value).expect("short");
                prop_assert!(!id.contains(['/', '\\', '?', '#']));
                if let Some(other) = seen.insert(id, value) {
                    prop_assert_eq!(other, value);
                }
            }
        }
    }
}
