//! Records, sound and damaged, that look like what a model's columns ask for.

use thalweg_stream::ColumnType;

use crate::model::{Model, NAMES, TIMES};
use crate::random::Random;

/// Makes records that resemble each other for a while, as those of one device do.
#[derive(Debug)]
pub(crate) struct Generator<'a> {
    model: &'a Model,
    /// Keys at the top, with the column whose value they are if any.
    shape: Vec<(String, Option<usize>)>,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(model: &'a Model) -> Self {
        Self {
            model,
            shape: Vec::new(),
        }
    }

    /// A record; in lines, without a line feed unless damage puts one there.
    pub(crate) fn record(&mut self, random: &mut Random, lines: bool) -> Vec<u8> {
        if self.shape.is_empty() || random.chance(10) {
            self.reshape(random);
        }
        let mut text = Text {
            out: Vec::new(),
            lines,
            spaced: random.chance(20),
            sound: random.chance(90),
        };
        self.object(random, &mut text);
        let mut record = text.out;
        if random.chance(25) {
            damage(&mut record, random);
        }
        record
    }

    /// Chooses other keys, in another order.
    fn reshape(&mut self, random: &mut Random) {
        let fields = self.model.fields.iter().enumerate();
        let mut shape: Vec<(String, Option<usize>)> = fields
            .filter(|(_, field)| field.path.len() == 1)
            .map(|(at, field)| (field.path[0].clone(), Some(at)))
            .collect();
        if self.model.fields.iter().any(|f| f.path.len() > 1) {
            shape.push(("nested".to_owned(), None));
        }
        for _ in 0..random.below(4) {
            shape.push(((*random.pick(NAMES)).to_owned(), None));
        }
        for at in (1..shape.len()).rev() {
            shape.swap(at, random.below(at as u64 + 1) as usize);
        }
        self.shape = shape;
    }

    fn object(&self, random: &mut Random, text: &mut Text) {
        text.space(random);
        text.out.push(b'{');
        let mut first = true;
        for (name, column) in &self.shape {
            // A field is missing now and then, or there twice.
            for _ in 0..[1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2][random.below(11) as usize] {
                if !std::mem::take(&mut first) {
                    text.out.push(b',');
                }
                text.key(random, name);
                match column.and_then(|at| self.model.fields.get(at)) {
                    Some(field) => text.value_for(random, &field.column.column_type),
                    None if name == "nested" => self.nested(random, text),
                    None => text.any(random, 3),
                }
                text.space(random);
            }
        }
        text.out.push(b'}');
        text.space(random);
    }

    /// A value with what paths of more than one segment lead to, most of the time.
    fn nested(&self, random: &mut Random, text: &mut Text) {
        if random.chance(10) {
            return text.any(random, 3);
        }
        text.out.push(b'{');
        let fields = self.model.fields.iter().filter(|f| f.path.len() > 1);
        for (at, field) in fields.enumerate() {
            if at > 0 {
                text.out.push(b',');
            }
            text.key(random, &field.path[1]);
            match field.path.get(2) {
                None => text.value_for(random, &field.column.column_type),
                Some(key) if random.chance(50) => {
                    text.out.push(b'{');
                    text.key(random, key);
                    text.value_for(random, &field.column.column_type);
                    text.out.push(b'}');
                }
                Some(_) => {
                    text.out.push(b'[');
                    for element in 0..random.below(3) {
                        if element > 0 {
                            text.out.push(b',');
                        }
                        text.value_for(random, &field.column.column_type);
                    }
                    text.out.push(b']');
                }
            }
        }
        text.out.push(b'}');
    }
}

/// JSON text in the making.
#[derive(Debug)]
struct Text {
    out: Vec<u8>,
    lines: bool,
    spaced: bool,
    /// Whether all of it keeps the grammar.
    sound: bool,
}

impl Text {
    fn space(&mut self, random: &mut Random) {
        while self.spaced && random.chance(40) {
            let space = *random.pick(b" \t\r\n ");
            self.out.push(if self.lines && space == b'\n' {
                b' '
            } else {
                space
            });
        }
    }

    fn key(&mut self, random: &mut Random, name: &str) {
        self.space(random);
        self.out.push(b'"');
        let escaping = random.chance(5);
        for character in name.chars() {
            if character == '"' || (escaping && random.chance(30)) {
                self.unicode_escape(character);
            } else {
                self.push(character);
            }
        }
        self.out.push(b'"');
        self.space(random);
        self.out.push(b':');
        self.space(random);
    }

    fn push(&mut self, character: char) {
        self.out
            .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn unicode_escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.out
                .extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
    }

    /// A value that a column takes, nearly always.
    fn value_for(&mut self, random: &mut Random, column_type: &ColumnType) {
        match random.below(40) {
            0 => return self.any(random, 4),
            1 | 2 => return self.out.extend_from_slice(b"null"),
            _ => {}
        }
        match column_type {
            ColumnType::Bool => {
                let value: &[u8] = if random.chance(50) { b"true" } else { b"false" };
                self.out.extend_from_slice(value);
            }
            ColumnType::Int32 => {
                let value = random.next() as i64 >> (32 + random.below(31));
                self.out.extend_from_slice(value.to_string().as_bytes());
            }
            ColumnType::Timestamp if random.chance(30) => {
                self.out.push(b'"');
                if random.chance(50) {
                    self.out.extend_from_slice(random.pick(TIMES).as_bytes());
                } else {
                    self.time(random);
                }
                self.out.push(b'"');
            }
            ColumnType::Int64 | ColumnType::Timestamp => {
                let value = random.next() as i64 >> random.below(63);
                self.out.extend_from_slice(value.to_string().as_bytes());
            }
            ColumnType::Float64 => self.number(random),
            ColumnType::List(item) => {
                self.out.push(b'[');
                self.space(random);
                for at in 0..random.below(5) {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.space(random);
                    self.value_for(random, item);
                    self.space(random);
                }
                self.out.push(b']');
            }
            ColumnType::String => self.string(random),
            ColumnType::Json
            | ColumnType::Float32
            | ColumnType::Decimal { .. }
            | ColumnType::Binary
            | ColumnType::Date => self.any(random, 4),
        }
    }

    /// A time of RFC 3339, or nearly one: each part is in its range or just behind it.
    fn time(&mut self, random: &mut Random) {
        let year = *random.pick(&[0, 1969, 1972, 2000, 2016, 2026, 9999]);
        let (month, day) = (random.below(14), random.below(33));
        let separator = char::from(*random.pick(b"TTTt _"));
        let (hour, minute, second) = (random.below(25), random.below(61), random.below(62));
        let text =
            format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}");
        self.out.extend_from_slice(text.as_bytes());
        if random.chance(50) {
            self.out.push(b'.');
            for _ in 0..random.below(12) {
                self.out.push(b'0' + random.below(10) as u8);
            }
        }
        if random.chance(50) {
            return self.out.push(*random.pick(b"Zz"));
        }
        let sign = char::from(*random.pick(b"+-"));
        let (hours, minutes) = (random.below(25), random.below(61));
        self.out
            .extend_from_slice(format!("{sign}{hours:02}:{minutes:02}").as_bytes());
    }

    /// Any value, nested up to `depth` levels, sometimes far deeper.
    fn any(&mut self, random: &mut Random, depth: u32) {
        match random.below(if depth == 0 { 7 } else { 11 }) {
            0 => self.out.extend_from_slice(b"null"),
            1 => self.out.extend_from_slice(b"true"),
            2 => self.out.extend_from_slice(b"false"),
            3 | 4 => self.number(random),
            5 | 6 => self.string(random),
            7 | 8 => {
                self.out.push(b'[');
                self.space(random);
                for at in 0..random.below(4) {
                    if at > 0 {
                        self.out.push(b',');
                        self.space(random);
                    }
                    self.any(random, depth - 1);
                    self.space(random);
                }
                self.out.push(b']');
            }
            9 if random.chance(5) => {
                let levels = 115 + random.below(20) as usize;
                let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}")]);
                self.out.extend_from_slice(open.repeat(levels).as_bytes());
                self.out.push(b'1');
                self.out.extend_from_slice(close.repeat(levels).as_bytes());
            }
            _ => {
                self.out.push(b'{');
                for at in 0..random.below(4) {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    let name = *random.pick(NAMES);
                    self.key(random, name);
                    self.any(random, depth - 1);
                }
                self.space(random);
                self.out.push(b'}');
            }
        }
    }

    /// A number of any length and notation; one in a hundred is not one, or beyond floats.
    fn number(&mut self, random: &mut Random) {
        if random.chance(40) {
            self.out.push(b'-');
        }
        let digits = |random: &mut Random, out: &mut Vec<u8>, longest: u64| {
            for _ in 0..random.below(longest) + 1 {
                out.push(b'0' + random.below(10) as u8);
            }
        };
        let longest = match random.below(200) {
            0 => 400,
            _ => *random.pick(&[1, 3, 8, 17, 20, 30]),
        };
        if random.chance(20) {
            self.out.push(b'0');
        } else {
            self.out.push(b'1' + random.below(9) as u8);
            digits(random, &mut self.out, longest);
        }
        if random.chance(60) {
            self.out.push(b'.');
            if self.sound || random.chance(90) {
                digits(random, &mut self.out, longest);
            }
        }
        if random.chance(15) {
            self.out.push(*random.pick(b"eE"));
            self.out
                .extend_from_slice(random.pick::<&[u8]>(&[&b""[..], b"+", b"-"]));
            let limit = *random.pick(&[5, 30, 280, 330, 100_000_000_000]);
            let exponent = random.below(limit);
            if self.sound || random.chance(90) {
                self.out.extend_from_slice(exponent.to_string().as_bytes());
            }
        }
    }

    fn string(&mut self, random: &mut Random) {
        self.out.push(b'"');
        let plain = random.chance(60);
        let limit = *random.pick(&[1, 5, 13, 14, 20, 70]);
        for _ in 0..random.below(limit) {
            if plain || random.chance(70) {
                self.out.push(*random.pick(b"abcXYZ019 _-/:,{}[]'\x7f"));
                continue;
            }
            match random.below(if self.sound { 4 } else { 7 }) {
                0 => self.push(*random.pick(&['é', '漢', '𝄞', '\u{80}', '\u{feff}', '\u{2028}'])),
                1 => self.out.extend_from_slice(random.pick::<&[u8]>(&[
                    &b"\\\""[..],
                    b"\\\\",
                    b"\\/",
                    b"\\b",
                    b"\\f",
                    b"\\n",
                    b"\\r",
                    b"\\t",
                ])),
                2 | 3 => {
                    self.unicode_escape(*random.pick(&['A', '\0', '"', 'é', '漢', '𝄞', '\u{ffff}']))
                }
                4 => self.out.extend_from_slice(random.pick::<&[u8]>(&[
                    &b"\\ud834"[..],
                    b"\\udd1e",
                    b"\\uD834\\u0041",
                    b"\\ud834\\n",
                    b"\\u12g4",
                    b"\\x",
                ])),
                5 => self.out.extend_from_slice(random.pick::<&[u8]>(&[
                    &b"\xff"[..],
                    b"\xc3",
                    b"\xed\xa0\x80",
                    b"\xf8\x88\x80\x80\x80",
                    b"\xc0\xaf",
                ])),
                _ => self.out.push(*random.pick(b"\0\t\x1f\r")),
            }
        }
        self.out.push(b'"');
    }
}

/// Changes some bytes of a record.
fn damage(record: &mut Vec<u8>, random: &mut Random) {
    const BYTES: &[u8] = b"{}[]:,\"\\0123456789-+.eEtfnu \t\r\n\0a\x80\xff";
    for _ in 0..random.below(3) + 1 {
        if record.is_empty() {
            return;
        }
        let at = random.below(record.len() as u64) as usize;
        match random.below(6) {
            0 => record[at] = *random.pick(BYTES),
            1 => record.insert(at, *random.pick(BYTES)),
            2 => {
                record.remove(at);
            }
            3 => record.truncate(at),
            4 => {
                let end = (at + 1 + random.below(12) as usize).min(record.len());
                let piece = record[at..end].to_vec();
                let to = random.below(record.len() as u64) as usize;
                record.splice(to..to, piece);
            }
            _ => record[at] ^= 1 << random.below(8),
        }
    }
}
