//! What the publisher remembers of documents: bounded, and never relied upon.
//!
//! Two generations of a map: when the young one is full it becomes the old one, and the old one
//! goes. An entry that is used moves to the young one. So the least recently used half goes at a
//! time, in constant time per use. A document that is not remembered costs one point read.

use std::collections::HashMap;

use crate::stamp::Carried;

/// A document as we last saw it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) etag: String,
    pub(crate) carried: Carried,
}

/// Documents by partition key and id.
#[derive(Debug)]
pub(crate) struct Cache {
    half: usize,
    young: HashMap<String, Known>,
    old: HashMap<String, Known>,
}

impl Cache {
    /// A cache of at most `documents_max`.
    pub(crate) fn new(documents_max: usize) -> Self {
        Self {
            half: documents_max.div_ceil(2).max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The document, if it is remembered.
    pub(crate) fn get(&mut self, key: &str) -> Option<Known> {
        if let Some(known) = self.young.get(key) {
            return Some(known.clone());
        }
        let known = self.old.remove(key)?;
        self.put(key, known.clone());
        Some(known)
    }

    /// Remembers a document.
    pub(crate) fn put(&mut self, key: &str, known: Known) {
        self.old.remove(key);
        if self.young.len() >= self.half && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.to_owned(), known);
    }

    /// Forgets a document.
    pub(crate) fn forget(&mut self, key: &str) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, Known};
    use crate::stamp::Carried;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut cache = Cache::new(8);
        let known = |etag: &str| Known {
            etag: etag.into(),
            carried: Carried::None,
        };
        cache.put("hot", known("1"));
        for i in 0..100 {
            cache.put(&format!("cold {i}"), known("0"));
            assert_eq!(cache.get("hot").map(|k| k.etag), Some("1".to_owned()));
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        cache.put("hot", known("2"));
        assert_eq!(cache.get("hot").map(|k| k.etag), Some("2".to_owned()));
        cache.forget("hot");
        assert!(cache.get("hot").is_none());
    }
}
