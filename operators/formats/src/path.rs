//! Where declared columns stand in a record: a tree of paths, and what the next key will be.
//!
//! Devices send the same fields in the same order. Each node of the tree therefore remembers the
//! keys of earlier records as the bytes that stood between two values (white space, quotes and
//! colon included), and first looks whether they come again; only if not, the key is read and
//! looked up.

use std::collections::HashMap;

use crate::scan::{BLOCK, Cursor, equal};
use crate::spec::Field;

/// Most segments of a path.
pub(crate) const SEGMENTS_MAX: usize = 100;

/// Most keys that a node remembers; records with more pay for a look-up each.
const REMEMBERED_MAX: usize = 128;

/// How many remembered keys are tried before a key is looked up: enough for some missing fields.
const TRIED_MAX: usize = 8;

/// What to do with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Check it.
    Skip,
    /// Check it and keep it among the unknown fields.
    Extra,
    /// It is the value of this field.
    Field(usize),
    /// It belongs to several fields or has fields in it: this node.
    Node(usize),
}

/// A position in the tree.
#[derive(Debug)]
pub(crate) struct Node {
    /// Fields whose value this is.
    pub(crate) leaves: Vec<usize>,
    /// All fields at or below it.
    pub(crate) fields: Vec<usize>,
    /// Elements by index, if it is an array.
    pub(crate) elements: Vec<(usize, Target)>,
    /// What to do with keys that nobody declared.
    pub(crate) unknown: Target,
    /// The keys that came last time.
    pub(crate) expected: Vec<Expected>,
    children: HashMap<Box<[u8]>, Target>,
}

impl Node {
    fn new(unknown: Target) -> Self {
        Self {
            leaves: Vec::new(),
            fields: Vec::new(),
            elements: Vec::new(),
            unknown,
            expected: Vec::new(),
            children: HashMap::new(),
        }
    }

    /// Whether fields stand below it.
    pub(crate) fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// What to do with the value of `key`, and whether somebody declared it.
    pub(crate) fn target(&self, key: &[u8]) -> (Target, bool) {
        match self.children.get(key) {
            Some(target) => (*target, true),
            None => (self.unknown, false),
        }
    }
}

/// Builds the tree; the root is the first node.
pub(crate) fn tree(fields: &[Field], extra: Option<usize>) -> Vec<Node> {
    let unknown = if extra.is_some() {
        Target::Extra
    } else {
        Target::Skip
    };
    let mut nodes = vec![Node::new(unknown)];
    let read = fields
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != extra);
    let paths: Paths<'_> = read
        .map(|(at, field)| (at, field.path.as_slice()))
        .collect();
    grow(0, &paths, 0, &mut nodes);
    nodes
}

/// Fields and their paths.
type Paths<'a> = Vec<(usize, &'a [String])>;

/// Fills node `at`, `depth` segments below the root, with the paths that lead to or through it.
fn grow(at: usize, paths: &[(usize, &[String])], depth: usize, nodes: &mut Vec<Node>) {
    let mut below: Vec<(&str, Paths<'_>)> = Vec::new();
    let mut leaves = Vec::new();
    for (field, path) in paths {
        let Some(segment) = path.get(depth) else {
            leaves.push(*field);
            continue;
        };
        match below.iter_mut().find(|(name, _)| name == segment) {
            Some((_, group)) => group.push((*field, path)),
            None => below.push((segment, vec![(*field, path)])),
        }
    }
    let mut children = HashMap::new();
    let mut elements = Vec::new();
    for (segment, group) in below {
        let target = match group.as_slice() {
            [(field, path)] if path.len() == depth + 1 => Target::Field(*field),
            _ => {
                let child = nodes.len();
                nodes.push(Node::new(Target::Skip));
                grow(child, &group, depth + 1, nodes);
                Target::Node(child)
            }
        };
        if let Some(index) = element_index(segment) {
            elements.push((index, target));
        }
        children.insert(Box::from(segment.as_bytes()), target);
    }
    if let Some(node) = nodes.get_mut(at) {
        node.leaves = leaves;
        node.fields = paths.iter().map(|(field, _)| *field).collect();
        node.elements = elements;
        node.children = children;
    }
}

/// The array index that a segment of a JSON pointer is (RFC 6901, section 4).
fn element_index(segment: &str) -> Option<usize> {
    let digits = segment.bytes().all(|b| b.is_ascii_digit());
    let canonical = segment == "0" || !segment.starts_with('0');
    (digits && canonical)
        .then(|| segment.parse().ok())
        .flatten()
}

/// A key as an earlier record had it, up to its value: `"name":`.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    head: u128,
    tail: u128,
    /// One bit a byte of each that counts.
    head_bits: u32,
    tail_bits: u32,
    len: usize,
    pub(crate) target: Target,
}

impl Expected {
    /// Remembers the bytes between two values, unless there are too many of them.
    fn new(text: &[u8], target: Target) -> Option<Self> {
        let mut bytes = [0; 2 * BLOCK];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let (head, tail) = bytes.split_at(BLOCK);
        let number = |half: &[u8]| half.iter().rev().fold(0, |n, b| n << 8 | u128::from(*b));
        let bits = (1u64 << text.len()) - 1;
        Some(Self {
            head: number(head),
            tail: number(tail),
            head_bits: bits as u32 & 0xffff,
            tail_bits: (bits >> BLOCK) as u32,
            len: text.len(),
            target,
        })
    }

    /// Where the value begins, if this key is at `at`.
    #[inline(always)]
    pub(crate) fn behind(&self, cursor: &Cursor<'_>, at: usize) -> Option<usize> {
        if equal(cursor.block(at), self.head) & self.head_bits != self.head_bits {
            return None;
        }
        if self.tail_bits != 0
            && equal(cursor.block(at + BLOCK), self.tail) & self.tail_bits != self.tail_bits
        {
            return None;
        }
        Some(at + self.len)
    }
}

/// Looks for the next key among those remembered near `slot`, which moves to it.
pub(crate) fn pass_any(
    expected: &[Expected],
    slot: &mut usize,
    cursor: &mut Cursor<'_>,
) -> Option<Target> {
    let tries = expected.len().min(TRIED_MAX);
    let mut at = *slot;
    for _ in 0..tries {
        if at >= expected.len() {
            at = 0;
        }
        let key = expected.get(at)?;
        if let Some(value) = key.behind(cursor, cursor.pos) {
            cursor.pos = value;
            *slot = at;
            return Some(key.target);
        }
        at += 1;
    }
    None
}

/// Remembers a key at `slot`. `text` runs from behind the last comma or brace to the value.
pub(crate) fn remember(expected: &mut Vec<Expected>, slot: usize, text: &[u8], target: Target) {
    let Some(key) = Expected::new(text, target) else {
        return;
    };
    if expected.len() < REMEMBERED_MAX {
        expected.insert(slot.min(expected.len()), key);
    } else if let Some(place) = expected.get_mut(slot) {
        *place = key;
    }
}
