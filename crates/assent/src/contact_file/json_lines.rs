//! JSON lines: one object per line, with the field names that a header would have. A line that is
//! no object is a bad row; arrays of numbers count as several.

use serde::de::{Deserializer, MapAccess, Visitor};

use super::columns::{ColumnMap, Columns};
use super::text::{Line, Text};
use super::{BadRow, FileError, Place, Reason, Row};

pub(super) struct JsonLines {
    text: Text,
    map: ColumnMap,
    keep_raw: bool,
    line: String,
    /// The keys of the row before and what they mean: rows of one file mostly look alike.
    names: Vec<String>,
    columns: Columns,
}

impl JsonLines {
    pub(super) fn new(text: Text, map: ColumnMap, keep_raw: bool) -> Self {
        Self {
            text,
            map,
            keep_raw,
            line: String::new(),
            names: Vec::new(),
            columns: Columns::default(),
        }
    }

    pub(super) fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        loop {
            let line = self.text.line();
            let read = self.text.read_line(&mut self.line)?;
            if read == Line::End {
                return Ok(None);
            }
            if self.line.trim().is_empty() {
                continue;
            }
            let raw = if self.keep_raw && read == Line::Whole {
                self.line.clone()
            } else {
                String::new()
            };
            let bad = |column: usize, reason, raw| {
                let place = Place { line, column: column.max(1) as u64 };
                Ok(Some(Row::Bad(BadRow { place, reason, raw })))
            };
            if read == Line::Cut {
                return bad(1, Reason::RecordTooLong, raw);
            }
            if self.text.undecodable()
                && let Some(at) = self.line.find('\u{fffd}')
            {
                return bad(self.line[..at].chars().count() + 1, Reason::EncodingInvalid, raw);
            }
            let fields = match read_object(&self.line) {
                Ok(fields) => fields,
                Err(error) => return bad(error.column(), Reason::JsonInvalid, raw),
            };
            let same = self.names.len() == fields.len()
                && self.names.iter().zip(&fields).all(|(known, (name, _))| known == name);
            if !same {
                self.names = fields.iter().map(|(name, _)| name.clone()).collect();
                let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                self.columns = Columns::from_names(&names, &self.map);
            }
            let cells: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
            return Ok(Some(self.columns.row(&cells, line, raw)));
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.memory_bytes() + self.line.capacity()
    }
}

/// The members of an object in their order, each value as text.
fn read_object(line: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, String)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = object.next_entry::<String, serde_json::Value>()? {
                members.push((name, as_text(&value)));
            }
            Ok(members)
        }
    }

    let mut json = serde_json::Deserializer::from_str(line);
    let members = json.deserialize_map(Members)?;
    json.end()?;
    Ok(members)
}

/// A scalar as it would stand in a cell; several in the way Google joins them.
fn as_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Array(items) => items
            .iter()
            .map(as_text)
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(" ::: "),
        serde_json::Value::Object(_) | serde_json::Value::Bool(_) | serde_json::Value::Null => {
            String::new()
        }
    }
}
