//! Data on stdout: tables for people, JSON for programs, and nothing in either that a terminal obeys.

use core::fmt::Display;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use onceward::{Code, Error, Result};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use serde_json::{Value, json};

use crate::args::Format;

/// The longest text in a cell of a table.
const CELL_CHARS_MAX: usize = 120;

/// The text with every character that a terminal would obey, or that would hide, written out.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// Controls of both sets, line breakers, bidirectional overrides, and characters without a shape.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes to stdout as they are. A reader that has seen enough is no failure.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(error)),
        _ => Ok(()),
    }
}

fn unwritten(error: io::Error) -> Error {
    Error::new(Code::OnceFailed, "stdout can't be written").with_source(error)
}

/// Writes a value as JSON: lists over several lines, one line per row.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    text(&format!("{}\n", json_text(value)?))
}

fn json_text(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Safe(PrettyFormatter::new()));
    value.serialize(&mut serializer).map_err(|error| unwritten(error.into()))?;
    String::from_utf8(bytes).map_err(|error| unwritten(io::Error::other(error)))
}

/// A row that can't be read, in a list of others.
pub(crate) fn unreadable(name: &str, version: i64) -> Value {
    json!({ "name": name, "version": version, "unreadable": true, "code": Code::RowUnreadable.as_str() })
}

/// What stands in a table beside the name of such a row.
pub(crate) fn unreadable_cell() -> String {
    format!("unreadable ({})", Code::RowUnreadable.as_str())
}

/// As [`json`], on one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Safe(CompactFormatter));
    value.serialize(&mut serializer).map_err(|error| unwritten(error.into()))?;
    String::from_utf8(bytes).map_err(|error| unwritten(io::Error::other(error)))
}

/// JSON in which dangerous characters are escaped, which plain JSON only asks for below U+0020.
struct Safe<F>(F);

impl<F: Formatter> Formatter for Safe<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_dangerous(*c)) {
            self.0.write_string_fragment(to, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_string_fragment(to, rest)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_array(to)
    }
    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array(to)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(to, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array_value(to)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }
    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }
    fn end_object_key<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_key(to)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

/// Bytes that were kept, with what they are: as text where they are text, in base 64 where they are not.
pub(crate) fn bytes_value(content_type: &str, size: u64, bytes: Option<&[u8]>) -> Value {
    let mut value = json!({ "content_type": content_type, "size": size });
    match bytes.map(|bytes| (bytes, core::str::from_utf8(bytes))) {
        Some((_, Ok(text))) => value["text"] = json!(text),
        Some((bytes, Err(_))) => value["base64"] = json!(BASE64.encode(bytes)),
        None => {}
    }
    value
}

/// A table of text.
pub(crate) struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(headings);
        Self { table }
    }

    /// Adds a row; a cell that is too long is cut.
    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a dyn Display>) {
        let cells = cells.into_iter().map(|cell| cut(&shown(&cell.to_string())));
        self.table.add_row(cells);
    }

    /// Adds a row of a name and what it stands for; none where there is nothing to say.
    pub(crate) fn field(&mut self, name: &str, value: Option<&dyn Display>) {
        if let Some(value) = value {
            self.row([&name as &dyn Display, value]);
        }
    }

    /// Writes it to stdout.
    pub(crate) fn print(&self) -> Result<()> {
        // Every cell has a space on both sides; the first one would only be in the way of `cut` and `awk`.
        let lines = self
            .table
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end()));
        text(&lines.collect::<String>())
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

impl Format {
    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self == Self::Json
    }
}
