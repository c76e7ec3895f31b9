//! Components written by hand: what a compiler would never make.
//!
//! A guest has one function `f(x float64)`. Its memory is laid out here, by the rules of the
//! canonical ABI
//! (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>).

use std::fmt::Write as _;

/// Where a guest's data begin.
const BASE: u32 = 1024;
/// Where the allocator of a guest begins.
const HEAP: u32 = 65_536;

/// The data of a guest.
pub(crate) struct Data {
    bytes: Vec<u8>,
}

impl Data {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Puts bytes into memory; where they are.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u32 {
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let at = BASE + u32::try_from(self.bytes.len()).expect("small");
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Puts a list of bytes or a string; where it is, and how long.
    pub(crate) fn list(&mut self, bytes: &[u8]) -> [u32; 2] {
        [self.put(bytes), u32::try_from(bytes.len()).expect("small")]
    }

    pub(crate) fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    fn literal(&self) -> String {
        self.bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").expect("text");
            text
        })
    }
}

/// What a column says of itself; each buffer is a pointer and a length.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) notation: [u32; 2],
    pub(crate) validity: Option<[u32; 2]>,
    pub(crate) offsets: [u32; 2],
    pub(crate) bytes: [u32; 2],
}

/// A whole answer: a column, and the rows that failed.
pub(crate) fn returned(data: &mut Data, column: Column, failed: [[u32; 2]; 3]) -> u32 {
    let validity = column
        .validity
        .map_or([0, 0, 0], |[at, length]| [1, at, length]);
    let words = [
        &[0][..],
        &column.notation,
        &validity,
        &column.offsets,
        &column.bytes,
        failed.as_flattened(),
    ];
    data.words(&words.concat())
}

/// A guest: the type of its result, what it does when called, and what else it is.
pub(crate) struct Guest {
    pub(crate) data: Data,
    /// The described functions: name, types of arguments, type of the result.
    pub(crate) functions: Vec<(Vec<u8>, Vec<&'static str>, &'static str)>,
    /// The body of `call`, with `$args` and `$rows`; returns where the answer is.
    pub(crate) call: String,
    /// The body of `describe`, instead of the one that describes `functions`.
    pub(crate) describe: Option<String>,
    /// More of the core module.
    pub(crate) module: String,
    /// More imports of the component.
    pub(crate) imports: &'static str,
    /// The component's type of `call`.
    pub(crate) call_type: &'static str,
    /// The name that the interface is exported under.
    pub(crate) export: &'static str,
    /// Pages of memory at the start.
    pub(crate) pages: u32,
}

pub(crate) const CALL_TYPE: &str = r#"(param "function" string) (param "arguments" (list $column))
    (param "rows" u32) (result (result $returned (error $failure)))"#;

impl Guest {
    pub(crate) fn new(result: &'static str, data: Data, call: impl Into<String>) -> Self {
        Self {
            data,
            functions: vec![(b"f".to_vec(), vec!["g"], result)],
            call: call.into(),
            describe: None,
            module: String::new(),
            imports: "",
            call_type: CALL_TYPE,
            export: "thalweg:udf/scalar@0.1.0",
            pages: 2,
        }
    }

    /// The component.
    pub(crate) fn build(mut self) -> Vec<u8> {
        let describe = self.describe.take().unwrap_or_else(|| self.described());
        let text = format!(
            r#"(component
  (import "thalweg:udf/host@0.1.0" (instance $host
    (export "log" (func (param "level" u8) (param "message" string)))))
  {imports}
  (core module $memory
    (memory (export "memory") {pages})
    (global $next (mut i32) (i32.const {HEAP}))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $enough (loop $more
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (br $more)))
      (local.get $at))
    (func (export "post") (param i32) (global.set $next (i32.const {HEAP}))))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $host "log") (memory $memory "memory")))
  (core instance $served (export "log" (func $log)))
  (core module $main
    (import "memory" "memory" (memory 1))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (data (i32.const {BASE}) "{data}")
    {module}
    (func (export "describe") (result i32) {describe})
    (func (export "call") (param $name i32) (param $length i32) (param $args i32)
      (param $count i32) (param $rows i32) (result i32)
      (local $at i32) (local $row i32) (local $x f64)
      {call}))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory)) (with "host" (instance $served))))
  (type $column' (record (field "type" string) (field "validity" (option (list u8)))
    (field "offsets" (list u8)) (field "bytes" (list u8))))
  (export $column "column" (type $column'))
  (type $blobs' (record (field "offsets" (list u8)) (field "bytes" (list u8))))
  (export $blobs "blobs" (type $blobs'))
  (type $failures' (record (field "rows" (list u8)) (field "messages" $blobs)))
  (export $failures "failures" (type $failures'))
  (type $returned' (record (field "values" $column) (field "failed" $failures)))
  (export $returned "returned" (type $returned'))
  (type $failure' (record (field "row" (option u32)) (field "message" string)))
  (export $failure "failure" (type $failure'))
  (type $parameter' (record (field "name" string) (field "type" string)))
  (export $parameter "parameter" (type $parameter'))
  (type $property' (record (field "name" string) (field "value" string)))
  (export $property "property" (type $property'))
  (type $function' (record (field "name" string) (field "parameters" (list $parameter))
    (field "result" string) (field "properties" (list $property))))
  (export $function "function" (type $function'))
  (func $describe (result (list $function))
    (canon lift (core func $main "describe") (memory $memory "memory")))
  (func $call {call_type}
    (canon lift (core func $main "call") (memory $memory "memory")
      (realloc (func $memory "realloc")) (post-return (func $memory "post"))))
  (instance $scalar (export "describe" (func $describe)) (export "call" (func $call)))
  (export "{export}" (instance $scalar)))"#,
            imports = self.imports,
            pages = self.pages,
            data = self.data.literal(),
            module = self.module,
            call = self.call,
            call_type = self.call_type,
            export = self.export,
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn described(&mut self) -> String {
        let mut words = Vec::new();
        for (name, arguments, result) in std::mem::take(&mut self.functions) {
            let name = self.data.list(&name);
            let mut parameters = Vec::new();
            for notation in &arguments {
                parameters.extend(self.data.list(b"x"));
                parameters.extend(self.data.list(notation.as_bytes()));
            }
            let parameters = self.data.words(&parameters);
            words.extend(name);
            words.extend([parameters, u32::try_from(arguments.len()).expect("few")]);
            words.extend(self.data.list(result.as_bytes()));
            words.extend([0, 0]);
        }
        let count = u32::try_from(words.len() / 8).expect("few");
        let functions = self.data.words(&words);
        format!("i32.const {}", self.data.words(&[functions, count]))
    }
}

/// A guest that returns its argument as it is, except for some values.
///
/// 13 traps, 14 and a fraction loops for ever, 15 asks for all memory, 16 fails the call and says which row, 17
/// fails the call and does not say, 18 fails its row alone (at most one in a call), 19 logs and
/// traps, 20 calls itself without end, 21 floods the log.
pub(crate) fn moody() -> Vec<u8> {
    let mut data = Data::new();
    let said = data.list("panicked at \u{1b}[31mrow\n19".as_bytes());
    let why = data.list(b"says no");
    let notation = data.list(b"g");
    let column = Column {
        notation,
        validity: None,
        offsets: [0, 0],
        bytes: [0, 0],
    };
    let failed = [
        data.list(&[0; 4]),
        data.list(&[0, 0, 0, 0, 7, 0, 0, 0]),
        why,
    ];
    let answer = returned(&mut data, column, failed);
    let [rows_at, _] = failed[0];
    let failure = data.words(&[1, 0, 0, why[0], why[1]]);
    let call = format!(
        r#"(i32.store offset=40 (i32.const {answer}) (i32.const {rows_at}))
      (i32.store offset=44 (i32.const {answer}) (i32.const 0))
      (i32.store offset=52 (i32.const {answer}) (i32.const 4))
      (i32.store offset=60 (i32.const {answer}) (i32.const 0))
      (i32.store8 offset=4 (i32.const {failure}) (i32.const 0))
      (local.set $at (i32.load offset=28 (local.get $args)))
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (local.set $x (f64.load (i32.add (local.get $at) (i32.mul (local.get $row) (i32.const 8)))))
        (if (f64.eq (local.get $x) (f64.const 13)) (then unreachable))
        (if (f64.eq (f64.floor (local.get $x)) (f64.const 14)) (then (loop $ever (br $ever))))
        (if (f64.eq (local.get $x) (f64.const 15)) (then
          (loop $more (drop (memory.grow (i32.const 256))) (br $more))))
        (if (f64.eq (local.get $x) (f64.const 16)) (then
          (i32.store8 offset=4 (i32.const {failure}) (i32.const 1))
          (i32.store offset=8 (i32.const {failure}) (local.get $row))
          (return (i32.const {failure}))))
        (if (f64.eq (local.get $x) (f64.const 17)) (then (return (i32.const {failure}))))
        (if (f64.eq (local.get $x) (f64.const 18)) (then
          (i32.store (i32.const {rows_at}) (local.get $row))
          (i32.store offset=44 (i32.const {answer}) (i32.const 4))
          (i32.store offset=52 (i32.const {answer}) (i32.const 8))
          (i32.store offset=60 (i32.const {answer}) (i32.const 7))))
        (if (f64.eq (local.get $x) (f64.const 19)) (then
          (call $log (i32.const 4) (i32.const {said0}) (i32.const {said1})) unreachable))
        (if (f64.eq (local.get $x) (f64.const 20)) (then (call $deep)))
        (if (f64.eq (local.get $x) (f64.const 21)) (then
          (loop $ever (call $log (i32.const 1) (i32.const 0) (i32.const 1000)) (br $ever))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
      (i32.store offset=32 (i32.const {answer}) (local.get $at))
      (i32.store offset=36 (i32.const {answer}) (i32.mul (local.get $rows) (i32.const 8)))
      (i32.store offset=12 (i32.const {answer}) (i32.load offset=8 (local.get $args)))
      (i32.store offset=16 (i32.const {answer}) (i32.load offset=12 (local.get $args)))
      (i32.store offset=20 (i32.const {answer}) (i32.load offset=16 (local.get $args)))
      (i32.const {answer})"#,
        said0 = said[0],
        said1 = said[1],
    );
    let mut guest = Guest::new("g", data, call);
    guest.module = "(func $deep (call $deep) (call $deep))".to_owned();
    guest.build()
}
