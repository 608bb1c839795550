//! What became of a message of ours, and what it costs. It guarantees that an error or a price that can't be read doesn't
//! lose the status.

use serde::Deserialize;
use serde_json::Value;

use super::fields::{contact, list, seconds, text};
use crate::whatsapp::updates::{Address, Pricing, StatusUpdate, Update};

#[derive(Deserialize)]
struct ErrorCode {
    code: i64,
}

pub(super) fn status(item: &Value, contacts: &[Value]) -> Update {
    let codes = list(item, "errors")
        .iter()
        .filter_map(|error| ErrorCode::deserialize(error).ok())
        .map(|error| error.code)
        .collect();
    let Some(status) = text(item, "status") else { return Update::Unreadable };
    let recipient = Address::new(text(item, "recipient_id"), text(item, "recipient_user_id"))
        .with_parent(text(item, "recipient_parent_user_id"));
    let recipient = match contacts {
        [one] => recipient.completed(contact(one)),
        _ => recipient,
    };
    Update::Status(StatusUpdate {
        id: text(item, "id").unwrap_or_default(),
        status,
        recipient,
        callback_data: text(item, "biz_opaque_callback_data"),
        codes,
        pricing: pricing(item),
        at: seconds(item),
    })
}

/// What is no code isn't kept: it could be anything.
fn pricing(item: &Value) -> Option<Pricing> {
    let it = item.get("pricing")?;
    let is_code = |text: &String| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(fits)
    };
    let code = |key: &str| text(it, key).filter(is_code);
    let kind = code("type");
    // Newer answers say it by the type alone.
    let by_kind = |kind: &str| match kind {
        "regular" => Some(true),
        free if free.starts_with("free_") => Some(false),
        _ => None,
    };
    let said = it.get("billable").and_then(Value::as_bool);
    let pricing = Pricing {
        category: code("category").map(|it| it.to_ascii_lowercase()),
        model: code("pricing_model"),
        billable: said.or_else(|| kind.as_deref().and_then(by_kind)),
        kind,
    };
    (pricing != Pricing::default()).then_some(pricing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::reading::tests::updates;

    #[test]
    fn what_a_message_costs_is_read_as_far_as_it_is_said() {
        let pricing = |text: &str| {
            let value = format!(
                r#"{{"statuses":[{{"id":"wamid.A","status":"sent","timestamp":"1","pricing":{text}}}]}}"#
            );
            let Some(Update::Status(status)) = updates(&value).into_iter().next() else {
                panic!("a status, whatever it costs")
            };
            status.pricing
        };
        let whole = r#"{"billable":false,"pricing_model":"PMP","type":"free_entry_point","category":"MARKETING","new":{}}"#;
        let expected = Pricing {
            category: Some("marketing".to_owned()),
            model: Some("PMP".to_owned()),
            kind: Some("free_entry_point".to_owned()),
            billable: Some(false),
        };
        assert_eq!(pricing(whole), Some(expected));
        let billable = |text: &str| pricing(text).and_then(|it| it.billable);
        assert_eq!(billable(r#"{"type":"regular"}"#), Some(true));
        assert_eq!(billable(r#"{"type":"free_customer_service"}"#), Some(false));
        assert_eq!(billable(r#"{"type":"free_entry_point","billable":true}"#), Some(true));
        assert_eq!(billable(r#"{"category":"utility","billable":"perhaps"}"#), None);
        for nothing in ["null", "7", "[]", "{}", r#"{"category":"+33 6 39","pricing_model":7}"#] {
            assert_eq!(pricing(nothing), None, "{nothing}");
        }
    }
}
