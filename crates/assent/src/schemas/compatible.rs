//! Whether a schema may follow another within one version. It guarantees that who reads by the old one
//! reads what is written by the new one, and the other way round, since topics keep everything; new
//! types and optional members are the only growth.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// What breaks readers or old events when `new` follows `old`, each with its place; empty: nothing.
pub fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut walk = Walk { old, new, seen: BTreeSet::new(), found: Vec::new() };
    walk.compare(old, new, "");
    walk.found
}

/// The same for all schemas, by file name.
pub fn breaks_of_all(
    released: &BTreeMap<String, Value>,
    current: &BTreeMap<String, Value>,
) -> Vec<String> {
    let of_one = |(name, old): (&String, &Value)| match current.get(name) {
        None => vec![format!("{name}: is gone")],
        Some(new) => breaks(old, new).into_iter().map(|what| format!("{name}{what}")).collect(),
    };
    released.iter().flat_map(of_one).collect()
}

/// What a schema says beside its members and parts, and says to people only.
const WORDS: [&str; 12] = [
    "$schema",
    "$id",
    "$defs",
    "$ref",
    "title",
    "description",
    "examples",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "x-extensible-enum",
];

/// What a schema says of a value, and must go on saying.
const KEPT: [&str; 5] = ["type", "format", "pattern", "minimum", "maximum"];

struct Walk<'a> {
    old: &'a Value,
    new: &'a Value,
    seen: BTreeSet<(String, String)>,
    found: Vec<String>,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, old: &'a Value, new: &'a Value, place: &str) {
        let (Some((old, old_name)), Some((new, new_name))) =
            (resolve(self.old, old), resolve(self.new, new))
        else {
            return self.found.push(format!("{place}: a reference leads nowhere"));
        };
        // Two named parts are compared once, however often they are referred to.
        if let (Some(old_name), Some(new_name)) = (old_name, new_name)
            && !self.seen.insert((old_name.to_owned(), new_name.to_owned()))
        {
            return;
        }
        let (Value::Object(old), Value::Object(new)) = (old, new) else {
            return self.expect(old == new, place, "is something else");
        };
        let said: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for word in said.into_iter().filter(|word| !WORDS.contains(&word.as_str())) {
            let known = KEPT.contains(&word.as_str());
            self.expect(known, place, &format!("says {word}, which isn't compared yet"));
            let same = !known || old.get(word) == new.get(word);
            self.expect(same, place, &format!("has another {word}"));
        }
        self.compare_members(old, new, place);
        self.compare_codes(old, new, place);
        for part in ["items", "additionalProperties"] {
            match (old.get(part), new.get(part)) {
                (Some(old), Some(new)) => self.compare(old, new, &format!("{place}[]")),
                (old, new) => self.expect(old == new, place, &format!("has another {part}")),
            }
        }
    }

    fn compare_members(
        &mut self,
        old: &'a Map<String, Value>,
        new: &'a Map<String, Value>,
        place: &str,
    ) {
        let (were, are) = (members(old), members(new));
        let (must_were, must_are) = (texts(old.get("required")), texts(new.get("required")));
        for (name, old) in &were {
            let place = format!("{place}.{name}");
            let Some(new) = are.get(name) else {
                self.found.push(format!("{place}: is gone"));
                continue;
            };
            self.compare(old, new, &place);
            let (was, is) = (must_were.contains(*name), must_are.contains(*name));
            self.expect(!was || is, &place, "may be absent now: readers rely on it");
            self.expect(was || !is, &place, "is required now: older events lack it");
        }
        for name in are.keys().filter(|name| !were.contains_key(*name)) {
            let place = format!("{place}.{name}");
            self.expect(
                !must_are.contains(*name),
                &place,
                "is new and required: older events lack it",
            );
        }
    }

    /// A list of codes may grow; one that is gone stands in older events.
    fn compare_codes(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, place: &str) {
        const CODES: &str = "x-extensible-enum";
        let (were, are) = (texts(old.get(CODES)), texts(new.get(CODES)));
        self.expect(
            old.contains_key(CODES) == new.contains_key(CODES),
            place,
            "was a list of codes, or is one now",
        );
        for code in were.difference(&are) {
            self.found.push(format!("{place}: the code {code} is gone"));
        }
    }

    fn expect(&mut self, holds: bool, place: &str, what: &str) {
        if !holds {
            self.found.push(format!("{place}: {what}"));
        }
    }
}

/// How many references may lead to references.
const CHAIN: usize = 16;

/// What a schema refers to in the end, with the name under which; itself, where it refers to nothing.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> Option<(&'a Value, Option<&'a str>)> {
    let (mut schema, mut name) = (schema, None);
    for _ in 0..CHAIN {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
            return Some((schema, name));
        };
        (schema, name) = (root.pointer(reference.strip_prefix('#')?)?, Some(reference));
    }
    None
}

fn members(schema: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect()
}

fn texts(list: Option<&Value>) -> BTreeSet<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::schemas::{current, released};

    fn schema() -> Value {
        json!({
            "description": "A yes.",
            "type": "object",
            "properties": {
                "at": {"type": "string", "format": "date-time"},
                "method": {"$ref": "#/$defs/Method", "description": "How."},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
                "counts": {"type": "object", "additionalProperties": {"type": "integer"}}
            },
            "required": ["at", "method"],
            "$defs": {
                "Method": {"type": "string", "x-extensible-enum": ["paper", "phone"]},
                "Line": {"type": "object", "properties": {"state": {"type": "string"}},
                         "required": ["state"]}
            }
        })
    }

    fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = schema();
        change(&mut new);
        breaks(&schema(), &new)
    }

    #[test]
    fn what_only_adds_breaks_nothing() {
        assert!(after(|_| ()).is_empty());
        assert!(after(|s| s["description"] = json!("Said yes.")).is_empty());
        assert!(after(|s| s["properties"]["place"] = json!({"type": "string"})).is_empty());
        let codes = json!(["paper", "phone", "fax"]);
        assert!(after(|s| s["$defs"]["Method"]["x-extensible-enum"] = codes).is_empty());
        // A part may be called something else, or stand in its place.
        assert!(after(|s| s["properties"]["method"] = s["$defs"]["Method"].clone()).is_empty());
    }

    type Change = fn(&mut Value);

    #[test]
    fn everything_else_breaks_and_its_place_is_said() {
        let cases: [(Change, &str); 17] = [
            (
                |s| drop(s["properties"].as_object_mut().unwrap().remove("counts")),
                ".counts: is gone",
            ),
            (|s| s["properties"]["at"]["type"] = json!("integer"), ".at: has another type"),
            (|s| s["properties"]["at"]["format"] = json!("date"), ".at: has another format"),
            (|s| s["properties"]["at"]["pattern"] = json!("Z$"), ".at: has another pattern"),
            (|s| s["required"] = json!(["at"]), ".method: may be absent now: readers rely on it"),
            (
                |s| s["required"] = json!(["at", "method", "lines"]),
                ".lines: is required now: older events lack it",
            ),
            (
                |s| {
                    s["properties"]["place"] = json!({"type": "string"});
                    s["required"] = json!(["at", "method", "place"]);
                },
                ".place: is new and required: older events lack it",
            ),
            (
                |s| s["$defs"]["Method"]["x-extensible-enum"] = json!(["paper"]),
                ".method: the code phone is gone",
            ),
            (
                |s| s["$defs"]["Method"] = json!({"type": "string"}),
                ".method: was a list of codes, or is one now",
            ),
            (
                |s| s["$defs"]["Line"]["properties"]["state"]["type"] = json!("integer"),
                ".lines[].state: has another type",
            ),
            (
                |s| s["properties"]["counts"]["additionalProperties"]["type"] = json!("string"),
                ".counts[]: has another type",
            ),
            (
                |s| drop(s["properties"]["lines"].as_object_mut().unwrap().remove("items")),
                ".lines: has another items",
            ),
            (
                |s| s["properties"]["lines"]["items"]["$ref"] = json!("#/$defs/Nothing"),
                ".lines[]: a reference leads nowhere",
            ),
            (
                |s| s["$defs"]["Line"] = json!({"$ref": "#/$defs/Line"}),
                ".lines[]: a reference leads nowhere",
            ),
            (
                |s| {
                    s["$defs"]["Other"] = json!({"type": "string"});
                    s["$defs"]["Line"] = json!({"$ref": "#/$defs/Other"});
                },
                ".lines[]: has another type",
            ),
            (
                |s| s["properties"]["at"]["oneOf"] = json!([{"$ref": "#/$defs/Line"}]),
                ".at: says oneOf, which isn't compared yet",
            ),
            (
                |s| s["properties"]["counts"]["additionalProperties"]["format"] = json!("int64"),
                ".counts[]: has another format",
            ),
        ];
        for (change, broken) in cases {
            assert!(after(change).contains(&broken.to_owned()), "{broken}: {:?}", after(change));
        }
    }

    #[test]
    fn each_of_two_inline_parts_is_compared() {
        let part = json!({"type": "string"});
        let members = |second: Value| {
            json!({"type": "object", "properties": {"a": part, "b": second},
                   "$defs": {"Part": part}})
        };
        let mut old = members(part.clone());
        for name in ["a", "b"] {
            old["properties"][name] = json!({"$ref": "#/$defs/Part"});
        }
        assert_eq!(breaks(&old, &members(part.clone())), Vec::<String>::new());
        let changed = breaks(&old, &members(json!({"type": "integer"})));
        assert_eq!(changed, [".b: has another type"]);
    }

    /// The files of the last release against those of today.
    #[test]
    fn nothing_that_was_released_is_broken() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        let released = released(Path::new(docs)).unwrap();
        assert!(released.contains_key("assent.consent.granted.v1"), "{docs}");
        let mut current = current();
        let broken = breaks_of_all(&released, &current);
        assert!(broken.is_empty(), "publish a new version beside it instead: {broken:#?}");
        current.remove("assent.consent.granted.v1");
        assert_eq!(breaks_of_all(&released, &current), ["assent.consent.granted.v1: is gone"]);
    }
}
