//! The schema of an event type as JSON Schema 2020-12. It guarantees a schema that stays true while the
//! type grows: unknown members are allowed, and lists of codes are open.

use assent_contracts::published::EventType;
use serde_json::{Map, Value, json};

/// The schema of this type's data, with the golden events as examples.
pub fn of(event: &EventType) -> Value {
    let (mut schema, parts) = parts(event, "#/$defs/");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["$id"] = json!(format!("urn:assent:{}", event.name));
    schema["title"] = json!(event.name);
    schema["examples"] = examples(event);
    if !parts.is_empty() {
        schema["$defs"] = Value::Object(parts);
    }
    schema
}

/// The golden events of a type.
pub fn examples(event: &EventType) -> Value {
    serde_json::from_str(event.golden).expect("golden events are JSON: a test reads each")
}

/// The type's own schema, and those that it refers to as `<place><name>`.
pub fn parts(event: &EventType, place: &str) -> (Value, Map<String, Value>) {
    let described = (event.describe)();
    let plain = |schema| {
        let mut schema = serde_json::to_value(schema).expect("a schema is JSON");
        open(&mut schema, place);
        schema
    };
    let own = plain(described.schema);
    (own, described.parts.into_iter().map(|(name, part)| (name, plain(part))).collect())
}

/// Makes an OpenAPI schema of today one for readers who will meet what is added later.
fn open(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| open(item, place)),
        Value::Object(fields) => {
            // What isn't there is left out, never null: a test of the golden events says so.
            if let Some(Value::Array(choices)) = fields.remove("oneOf") {
                let mut choices: Vec<_> =
                    choices.into_iter().filter(|choice| choice["type"] != "null").collect();
                match choices.pop() {
                    Some(Value::Object(only)) if choices.is_empty() => fields.extend(only),
                    last => {
                        choices.extend(last);
                        fields.insert("oneOf".to_owned(), Value::Array(choices));
                    }
                }
            }
            if let Some(Value::Array(types)) = fields.get("type").cloned() {
                let types: Vec<_> = types.into_iter().filter(|name| name != "null").collect();
                fields.insert("type".to_owned(), json!(types.first()));
            }
            if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
                fields.remove("additionalProperties");
            }
            fields.remove("propertyNames");
            if let Some(codes) = fields.remove("enum") {
                fields.insert("x-extensible-enum".to_owned(), codes);
            }
            if let Some(example) = fields.remove("example") {
                fields.insert("examples".to_owned(), json!([example]));
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", place);
            }
            if let Some(Value::String(said)) = fields.get_mut("description") {
                *said = said.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            fields.values_mut().for_each(|field| open(field, place));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use assent_contracts::published::ALL;

    use super::*;

    fn named(name: &str) -> Value {
        of(ALL.iter().find(|event| event.name == name).unwrap())
    }

    #[test]
    fn what_is_added_later_is_no_fault() {
        for event in ALL {
            let text = of(event).to_string();
            assert!(!text.contains("\"additionalProperties\":false"), "{}", event.name);
            assert!(!text.contains("\"enum\":"), "{}", event.name);
            assert!(!text.contains("\"null\""), "{}", event.name);
        }
        let granted = named("assent.consent.granted.v1");
        assert_eq!(granted["$defs"]["Method"]["x-extensible-enum"][0], "api");
        assert_eq!(granted["properties"]["confirms"]["$ref"], "#/$defs/Confirms");
        assert_eq!(granted["properties"]["place"]["type"], "string");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, root: &Value) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| check(item, root)),
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let place = reference.strip_prefix('#').unwrap();
                        assert!(root.pointer(place).is_some(), "{reference} in {}", root["title"]);
                    }
                    fields.values().for_each(|field| check(field, root));
                }
                _ => {}
            }
        }
        for event in ALL {
            let schema = of(event);
            check(&schema, &schema);
        }
    }
}
