//! One pass over a record: its declared values into columns, all the rest checked.

use crate::column::{Column, State};
use crate::path::{self, Expected, Node, Target};
use crate::scan::{Cursor, DEPTH_MAX, Stop, Token, unescape};
use crate::spec::Layout;

/// Reads records into columns, one row after the other.
#[derive(Debug)]
pub(crate) struct RecordReader {
    pub(crate) columns: Vec<Column>,
    /// The row that the next record becomes.
    pub(crate) row: usize,
    nodes: Vec<Node>,
    /// Position of the column for unknown fields.
    extra: Option<usize>,
    /// How many columns records fill.
    declared: usize,
    /// How many columns this record has filled.
    filled: usize,
    /// Whether it filled one with anything but a value.
    trouble: bool,
    /// Keys (with quotes) and values of this record that nobody declared.
    unknown: Vec<Member>,
    scratch: Vec<u8>,
}

/// A key and its value, as ranges of bytes.
#[derive(Clone, Copy, Debug)]
struct Member {
    key: (usize, usize),
    value: (usize, usize),
}

/// What became of a well-formed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All columns are as declared.
    Fits,
    /// The column at this position is not.
    Misfit(usize, State),
}

impl RecordReader {
    /// A reader of records as described.
    pub(crate) fn new(layout: &Layout) -> Self {
        let rows = layout.batch_rows_max;
        Self {
            columns: (layout.fields.iter())
                .map(|field| Column::new(field, rows))
                .collect(),
            row: 0,
            nodes: path::tree(&layout.fields, layout.extra),
            extra: layout.extra,
            declared: layout.fields.len() - usize::from(layout.extra.is_some()),
            filled: 0,
            trouble: false,
            unknown: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Reads the object under the cursor into the current row.
    ///
    /// The row counts once [`RecordReader::row`] is increased; [`RecordReader::give_up`] otherwise.
    #[inline]
    pub(crate) fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        self.filled = 0;
        self.trouble = false;
        cursor.space();
        if cursor.byte() != b'{' {
            cursor.token(0)?;
            return Err(Stop::NotAnObject);
        }
        let start = cursor.pos;
        self.unknown.clear();
        self.object(0, cursor, 1)?;
        self.leaves(0, Token::Object, cursor, start);
        if let Some(extra) = self.extra {
            self.collect_unknown(extra, cursor);
        }
        Ok(())
    }

    /// Whether the record just read is as declared.
    #[inline(always)]
    pub(crate) fn verdict(&self) -> Verdict {
        if self.filled == self.declared && !self.trouble && self.extra.is_none() {
            return Verdict::Fits;
        }
        self.verdict_slow()
    }

    #[inline(never)]
    fn verdict_slow(&self) -> Verdict {
        for (at, column) in self.columns.iter().enumerate() {
            match column.state(self.row) {
                State::Value => {}
                State::Missing | State::Null if !column.required => {}
                state => return Verdict::Misfit(at, state),
            }
        }
        Verdict::Fits
    }

    /// Forgets what the record just read has left in the columns.
    pub(crate) fn give_up(&mut self) {
        for column in &mut self.columns {
            column.forget(self.row);
        }
    }

    /// Passes the object under the cursor, which `node` describes; it is the `depth`th around its
    /// members.
    fn object(&mut self, node: usize, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        // Taken out, so that values can be read while keys are looked at.
        let mut expected = match self.nodes.get_mut(node) {
            Some(node) => std::mem::take(&mut node.expected),
            None => Vec::new(),
        };
        let result = self.members(node, &mut expected, cursor, depth);
        if let Some(node) = self.nodes.get_mut(node) {
            node.expected = expected;
        }
        result
    }

    #[inline(always)]
    fn members(
        &mut self,
        node: usize,
        expected: &mut Vec<Expected>,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        cursor.pos += 1;
        cursor.space();
        if cursor.byte() == b'}' {
            cursor.pos += 1;
            return Ok(());
        }
        let mut slot = 0;
        loop {
            if cursor.beyond() {
                return Err(Stop::Syntax);
            }
            let key = cursor.pos;
            let target = match expected.get(slot).and_then(|e| e.pass(cursor)) {
                Some(target) => target,
                None => self.look_up(node, expected, &mut slot, cursor)?,
            };
            slot += 1;
            cursor.space();
            match target {
                Target::Field(at) => self.field(at, cursor, depth)?,
                Target::Skip => {
                    cursor.token(depth)?;
                }
                Target::Extra => self.unknown_member(key, cursor, depth)?,
                Target::Node(child) => self.node(child, cursor, depth)?,
            }
            cursor.space();
            match cursor.byte() {
                b',' => cursor.pos += 1,
                b'}' => {
                    cursor.pos += 1;
                    return Ok(());
                }
                _ => return Err(Stop::Syntax),
            }
            cursor.space();
        }
    }

    /// Reads a key that did not come as expected; moves `slot` to where it is remembered.
    #[inline(never)]
    fn look_up(
        &mut self,
        node: usize,
        expected: &mut Vec<Expected>,
        slot: &mut usize,
        cursor: &mut Cursor<'_>,
    ) -> Result<Target, Stop> {
        if let Some(target) = path::pass_any(expected, slot, cursor) {
            return Ok(target);
        }
        let start = cursor.pos;
        let key = cursor.key()?;
        let raw = cursor.span(key.start, key.end);
        let Some(node) = self.nodes.get(node) else {
            return Err(Stop::Syntax);
        };
        if key.escaped {
            self.scratch.clear();
            unescape(raw, &mut self.scratch);
            return Ok(node.target(&self.scratch).0);
        }
        let (target, declared) = node.target(raw);
        // A remembered key is not looked at again, so it must be known to be UTF-8.
        if cursor.at(key.end + 1) == b':' && (declared || raw.is_ascii()) {
            path::remember(expected, *slot, cursor.span(start, key.end + 2), target);
        }
        Ok(target)
    }

    #[inline(always)]
    fn field(&mut self, at: usize, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Stop> {
        let Some(column) = self.columns.get_mut(at) else {
            return Err(Stop::Syntax);
        };
        if column.state(self.row) == State::Missing {
            self.filled += 1;
        } else {
            // As in `serde_json`, the last of several equal keys holds.
            column.forget(self.row);
        }
        let state = column.read(self.row, cursor, depth)?;
        self.trouble |= state != State::Value;
        Ok(())
    }

    /// Passes a value that `node` describes.
    fn node(&mut self, node: usize, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Stop> {
        self.forget_below(node);
        let (is_leaf, has_children, has_elements) = match self.nodes.get(node) {
            Some(node) => (
                !node.leaves.is_empty(),
                node.has_children(),
                !node.elements.is_empty(),
            ),
            None => return Err(Stop::Syntax),
        };
        let start = cursor.pos;
        if is_leaf {
            let token = cursor.token(depth)?;
            self.leaves(node, token, cursor, start);
            if !has_children {
                return Ok(());
            }
            cursor.pos = start;
        }
        match cursor.byte() {
            b'{' => self.object(node, cursor, depth + 1),
            b'[' if has_elements => self.array(node, cursor, depth + 1),
            _ => cursor.token(depth).map(|_| ()),
        }
    }

    /// Gives the value that has been passed since `start` to the fields whose value it is.
    #[inline]
    fn leaves(&mut self, node: usize, token: Token, cursor: &Cursor<'_>, start: usize) {
        let leaves = match self.nodes.get(node) {
            Some(node) => node.leaves.as_slice(),
            None => &[],
        };
        for at in leaves {
            if let Some(column) = self.columns.get_mut(*at) {
                let state = column.set(self.row, token, cursor.bytes(), start, cursor.pos);
                self.filled += 1;
                self.trouble |= state != State::Value;
            }
        }
    }

    /// Forgets all that an earlier value for the same key has given.
    fn forget_below(&mut self, node: usize) {
        let fields = self.nodes.get(node).map_or(&[][..], |n| &n.fields);
        for at in fields {
            if let Some(column) = self.columns.get_mut(*at)
                && column.state(self.row) != State::Missing
            {
                column.forget(self.row);
                self.filled -= 1;
            }
        }
    }

    /// Passes the array under the cursor, of which `node` describes some elements.
    fn array(&mut self, node: usize, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        cursor.pos += 1;
        cursor.space();
        if cursor.byte() == b']' {
            cursor.pos += 1;
            return Ok(());
        }
        let mut index = 0;
        loop {
            if cursor.beyond() {
                return Err(Stop::Syntax);
            }
            let elements = self.nodes.get(node).map_or(&[][..], |n| &n.elements);
            match elements.iter().find(|(at, _)| *at == index) {
                Some((_, Target::Field(at))) => self.field(*at, cursor, depth)?,
                Some((_, Target::Node(child))) => self.node(*child, cursor, depth)?,
                Some((_, Target::Skip | Target::Extra)) | None => {
                    cursor.token(depth)?;
                }
            }
            index += 1;
            cursor.space();
            match cursor.byte() {
                b',' => cursor.pos += 1,
                b']' => {
                    cursor.pos += 1;
                    return Ok(());
                }
                _ => return Err(Stop::Syntax),
            }
            cursor.space();
        }
    }

    /// Passes the value of a key that nobody declared.
    fn unknown_member(
        &mut self,
        key: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        let start = cursor.pos;
        cursor.token(depth)?;
        let value = (start, cursor.pos);
        // The key was passed before and ends before the colon and white space.
        let mut again = Cursor::over_record(cursor.bytes(), key, start);
        let text = again.key()?;
        self.unknown.push(Member {
            key: (key, text.end + 1),
            value,
        });
        Ok(())
    }

    /// Writes the unknown fields of the record as one object.
    fn collect_unknown(&mut self, extra: usize, cursor: &Cursor<'_>) {
        if self.unknown.is_empty() {
            return;
        }
        let members = last_of_each(&self.unknown, cursor);
        self.scratch.clear();
        for member in members {
            let separator = if self.scratch.is_empty() { b'{' } else { b',' };
            self.scratch.push(separator);
            (self.scratch).extend_from_slice(cursor.span(member.key.0, member.key.1));
            self.scratch.push(b':');
            (self.scratch).extend_from_slice(cursor.span(member.value.0, member.value.1));
        }
        self.scratch.push(b'}');
        if let Some(column) = self.columns.get_mut(extra) {
            column.set_json(self.row, &self.scratch);
        }
    }
}

/// The members without those whose key comes again later.
fn last_of_each(members: &[Member], cursor: &Cursor<'_>) -> Vec<Member> {
    let mut seen = std::collections::HashSet::with_capacity(members.len());
    let is_last = |member: &&Member| {
        let raw = cursor.span(member.key.0 + 1, member.key.1 - 1);
        let mut key = Vec::with_capacity(raw.len());
        unescape(raw, &mut key);
        seen.insert(key)
    };
    let mut kept: Vec<Member> = members.iter().rev().filter(is_last).copied().collect();
    kept.reverse();
    kept
}
