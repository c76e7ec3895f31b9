//! One pass over a record: its declared values into columns, all the rest checked.

use arrow::array::ArrayRef;
use thalweg_stream::Fault;

use crate::assembly::{Reader, Verdict};
use crate::column::{Column, State};
use crate::path::{self, Expected, Node, Target};
use crate::scan::{Cursor, DEPTH_MAX, Stop, Token, unescape};
use crate::spec::Layout;

/// Reads records into columns, one row after the other.
#[derive(Debug)]
pub(crate) struct RecordReader {
    /// Where columns stand in a record; the root first.
    nodes: Vec<Node>,
    /// Position of the column for unknown fields.
    extra: Option<usize>,
    /// How many columns records fill.
    declared: usize,
    row: Row,
}

/// The row that the next record becomes.
#[derive(Debug)]
struct Row {
    columns: Vec<Column>,
    /// Its number.
    at: usize,
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

impl RecordReader {
    /// A reader of records as described.
    pub(crate) fn new(layout: &Layout) -> Self {
        let rows = layout.batch_rows_max;
        Self {
            nodes: path::tree(&layout.fields, layout.extra),
            extra: layout.extra,
            declared: layout.fields.len() - usize::from(layout.extra.is_some()),
            row: Row {
                columns: (layout.fields.iter())
                    .map(|field| Column::new(field, rows))
                    .collect(),
                at: 0,
                filled: 0,
                trouble: false,
                unknown: Vec::new(),
                scratch: Vec::new(),
            },
        }
    }

    /// Reads the object under the cursor into the current row.
    ///
    /// Then either [`keep`](Reader::keep) or [`give_up`](Reader::give_up).
    #[inline]
    pub(crate) fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        self.row.filled = 0;
        self.row.trouble = false;
        cursor.space();
        if cursor.byte() != b'{' {
            cursor.skip(0)?;
            return Err(Stop::NotAnObject);
        }
        let start = cursor.pos;
        self.row.object(&mut self.nodes, 0, cursor, 1)?;
        if let Some(root) = self.nodes.first()
            && !root.leaves.is_empty()
        {
            self.row.leaves(root, Token::Object, cursor, start);
        }
        if let Some(extra) = self.extra {
            self.row.collect_unknown(extra, cursor);
        }
        Ok(())
    }
}

impl Reader for RecordReader {
    #[inline(always)]
    fn columns(&self) -> &[Column] {
        &self.row.columns
    }

    #[inline(always)]
    fn row(&self) -> usize {
        self.row.at
    }

    #[inline(always)]
    fn verdict(&self) -> Verdict {
        if self.row.filled == self.declared && !self.row.trouble && self.extra.is_none() {
            return Verdict::Fits;
        }
        self.row.verdict()
    }

    #[inline(always)]
    fn keep(&mut self) {
        self.row.at += 1;
    }

    #[cold]
    fn give_up(&mut self) {
        let row = &mut self.row;
        row.unknown.clear();
        for column in &mut row.columns {
            column.forget(row.at);
        }
    }

    fn take(&mut self, arrays: &mut Vec<ArrayRef>) -> Result<(), Fault> {
        let rows = std::mem::take(&mut self.row.at);
        for column in &mut self.row.columns {
            arrays.extend(column.finish(rows)?);
        }
        Ok(())
    }
}

impl Row {
    /// Looks at the columns one by one.
    #[inline(never)]
    fn verdict(&self) -> Verdict {
        Verdict::on(&self.columns, self.at)
    }

    /// Passes the object under the cursor, which `node` describes; it is the `depth`th around its
    /// members.
    fn object(
        &mut self,
        nodes: &mut [Node],
        node: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooDeep);
        }
        cursor.pos += 1;
        if cursor.byte() != b'"' {
            cursor.space();
            if cursor.byte() == b'}' {
                cursor.pos += 1;
                return Ok(());
            }
        }
        let mut slot = 0;
        loop {
            let Some(this) = nodes.get_mut(node) else {
                return Err(Stop::Syntax);
            };
            let expected = this.expected.get(slot..).unwrap_or_default();
            match self.expected(expected, cursor, depth)? {
                None => return Ok(()),
                Some(passed) => slot += passed,
            }
            self.unexpected(nodes, node, &mut slot, cursor, depth)?;
            if !another(cursor)? {
                return Ok(());
            }
        }
    }

    /// Passes a member that did not come as expected; moves `slot` behind it.
    #[inline(never)]
    fn unexpected(
        &mut self,
        nodes: &mut [Node],
        node: usize,
        slot: &mut usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        let Some(this) = nodes.get_mut(node) else {
            return Err(Stop::Syntax);
        };
        let key = cursor.pos;
        let target = look_up(this, slot, cursor, &mut self.scratch)?;
        *slot += 1;
        cursor.space();
        match target {
            Target::Field(at) => self.field(at, cursor, depth),
            Target::Skip => cursor.skip(depth),
            Target::Extra => self.unknown_member(key, cursor, depth),
            Target::Node(child) => self.node(nodes, child, cursor, depth),
        }
    }

    /// Passes members while they are those expected: how many there were, or nothing if the
    /// object has ended with them.
    fn expected(
        &mut self,
        expected: &[Expected],
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<Option<usize>, Stop> {
        let mut at = cursor.pos;
        let mut passed = 0;
        while let Some(key) = expected.get(passed)
            && !cursor.is_beyond(at)
            && let Some(value) = key.behind(cursor, at)
        {
            let end = if let Target::Field(column) = key.target {
                self.usual_field(column, cursor, value)
            } else if key.target == Target::Skip {
                cursor.usual(value)
            } else {
                break;
            };
            passed += 1;
            match end.map(|end| (cursor.at(end), end)) {
                Some((b',', end)) => {
                    at = end + 1;
                    continue;
                }
                Some((b'}', end)) => {
                    cursor.pos = end + 1;
                    return Ok(None);
                }
                _ => {}
            }
            cursor.pos = value;
            cursor.space();
            match key.target {
                Target::Field(column) => self.field(column, cursor, depth)?,
                Target::Skip | Target::Extra | Target::Node(_) => cursor.skip(depth)?,
            }
            if !another(cursor)? {
                return Ok(None);
            }
            at = cursor.pos;
        }
        cursor.pos = at;
        if cursor.beyond() {
            return Err(Stop::Syntax);
        }
        Ok(Some(passed))
    }

    /// Reads the value at `value` if it is usual and the first of this column in this record.
    #[inline(always)]
    fn usual_field(
        &mut self,
        column: usize,
        cursor: &mut Cursor<'_>,
        value: usize,
    ) -> Option<usize> {
        let column = self.columns.get_mut(column)?;
        if column.state(self.at) != State::Missing {
            return None;
        }
        let end = column.usual(self.at, cursor, value)?;
        self.filled += 1;
        Some(end)
    }

    /// Reads any value of a column.
    #[inline(never)]
    fn field(&mut self, at: usize, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Stop> {
        let Some(column) = self.columns.get_mut(at) else {
            return Err(Stop::Syntax);
        };
        if column.state(self.at) == State::Missing {
            self.filled += 1;
        } else {
            // As in `serde_json`, the last of several equal keys holds.
            column.forget(self.at);
        }
        let state = column.read(self.at, cursor, depth)?;
        self.trouble |= state != State::Value;
        Ok(())
    }

    /// Passes a value that `node` describes.
    #[inline(never)]
    fn node(
        &mut self,
        nodes: &mut [Node],
        node: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        let Some(this) = nodes.get(node) else {
            return Err(Stop::Syntax);
        };
        self.forget(&this.fields);
        let start = cursor.pos;
        if !this.leaves.is_empty() {
            let token = cursor.token(depth)?;
            self.leaves(this, token, cursor, start);
            if !this.has_children() {
                return Ok(());
            }
            cursor.pos = start;
        }
        match cursor.byte() {
            b'{' => self.object(nodes, node, cursor, depth + 1),
            b'[' if !this.elements.is_empty() => self.array(nodes, node, cursor, depth + 1),
            _ => cursor.skip(depth),
        }
    }

    /// Gives the value that has been passed since `start` to the fields whose value it is.
    fn leaves(&mut self, node: &Node, token: Token, cursor: &Cursor<'_>, start: usize) {
        for at in &node.leaves {
            if let Some(column) = self.columns.get_mut(*at) {
                let state = column.set(self.at, token, cursor.bytes(), start, cursor.pos);
                self.filled += 1;
                self.trouble |= state != State::Value;
            }
        }
    }

    /// Forgets what an earlier value for the same key has given to `fields`.
    fn forget(&mut self, fields: &[usize]) {
        for at in fields {
            if let Some(column) = self.columns.get_mut(*at)
                && column.state(self.at) != State::Missing
            {
                column.forget(self.at);
                self.filled -= 1;
            }
        }
    }

    /// Passes the array under the cursor, of which `node` describes some elements.
    fn array(
        &mut self,
        nodes: &mut [Node],
        node: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
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
            let elements = nodes.get(node).map_or(&[][..], |n| &n.elements);
            let target = elements.iter().find(|(at, _)| *at == index);
            match target.map(|(_, target)| *target) {
                Some(Target::Field(at)) => self.field(at, cursor, depth)?,
                Some(Target::Node(child)) => self.node(nodes, child, cursor, depth)?,
                Some(Target::Skip | Target::Extra) | None => cursor.skip(depth)?,
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
    #[inline(never)]
    fn unknown_member(
        &mut self,
        key: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<(), Stop> {
        let start = cursor.pos;
        cursor.skip(depth)?;
        // The key has been passed, but not where it is: before a colon, among white space.
        let mut again = Cursor::over_record(cursor.bytes(), key, start).ok_or(Stop::Syntax)?;
        again.space();
        let text = again.key()?;
        self.unknown.push(Member {
            key: (text.start - 1, text.end + 1),
            value: (start, cursor.pos),
        });
        Ok(())
    }

    /// Writes the unknown fields of the record as one object.
    fn collect_unknown(&mut self, extra: usize, cursor: &Cursor<'_>) {
        if self.unknown.is_empty() {
            return;
        }
        self.scratch.clear();
        for member in last_of_each(&self.unknown, cursor) {
            let separator = if self.scratch.is_empty() { b'{' } else { b',' };
            self.scratch.push(separator);
            (self.scratch).extend_from_slice(cursor.span(member.key.0, member.key.1));
            self.scratch.push(b':');
            (self.scratch).extend_from_slice(cursor.span(member.value.0, member.value.1));
        }
        self.scratch.push(b'}');
        self.unknown.clear();
        if let Some(column) = self.columns.get_mut(extra) {
            column.set_json(self.at, &self.scratch);
        }
    }
}

/// Passes what comes after a member: whether another one does.
#[inline(always)]
fn another(cursor: &mut Cursor<'_>) -> Result<bool, Stop> {
    cursor.space();
    let byte = cursor.byte();
    if byte != b',' && byte != b'}' {
        return Err(Stop::Syntax);
    }
    cursor.pos += 1;
    Ok(byte == b',')
}

/// Reads a key that did not come as expected; moves `slot` to where it is remembered.
#[inline(never)]
fn look_up(
    node: &mut Node,
    slot: &mut usize,
    cursor: &mut Cursor<'_>,
    scratch: &mut Vec<u8>,
) -> Result<Target, Stop> {
    if let Some(target) = path::pass_any(&node.expected, slot, cursor) {
        return Ok(target);
    }
    let start = cursor.pos;
    cursor.space();
    let key = cursor.key()?;
    let raw = cursor.span(key.start, key.end);
    if key.escaped {
        scratch.clear();
        unescape(raw, scratch);
        return Ok(node.target(scratch).0);
    }
    let (target, declared) = node.target(raw);
    // A remembered key is not looked at again, so it must be known to be UTF-8, and no line may
    // end within.
    let text = cursor.span(start, cursor.pos);
    if (declared || raw.is_ascii()) && !text.contains(&b'\n') {
        path::remember(&mut node.expected, *slot, text, target);
    }
    Ok(target)
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
