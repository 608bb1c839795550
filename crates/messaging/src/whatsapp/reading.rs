//! Reads what stands in a webhook, tolerantly: each update on its own, so that an unknown field, type or id
//! never loses the others. It guarantees that a stop is found wherever the rest can't be read.

use serde::Deserialize;
use serde_json::Value;

use super::updates::{
    AccountUpdate, Address, Inbound, Moved, Preference, Pricing, Said, StatusUpdate, TemplateNews,
    TemplateUpdate, Update,
};

/// The lists whose elements are updates of their own.
pub(super) const LISTS: [&str; 4] = ["messages", "statuses", "user_preferences", "user_id_update"];

/// What else people send.
const KINDS: [&str; 10] = [
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "order",
    "unsupported",
];

/// What an element is follows from where it stands; `field` may be of a newer version.
pub(super) fn read_change(
    entry: &Value,
    change: &Value,
    mut found: impl FnMut(Option<(&'static str, usize)>, Update),
) {
    let Some(value) = change.get("value").filter(|value| value.is_object()) else {
        return found(None, Update::Unreadable);
    };
    let contacts = list(value, "contacts");
    let number = value.get("metadata").and_then(|it| text(it, "phone_number_id"));
    let mut listed = false;
    for key in LISTS {
        for (index, item) in list(value, key).iter().enumerate() {
            listed = true;
            let update = match key {
                "messages" => message(item, contacts, number.as_deref()),
                "statuses" => status(item, contacts),
                "user_preferences" => preference(item),
                _ => moved(item),
            };
            found(Some((key, index)), update);
        }
    }
    if !listed {
        found(None, other(entry, change, value));
    }
}

/// A change that is no list of updates.
fn other(entry: &Value, change: &Value, value: &Value) -> Update {
    let field = change.get("field").and_then(Value::as_str).unwrap_or_default();
    let at = entry.get("time").and_then(number).unwrap_or_default();
    let account = text(entry, "id");
    match field {
        "message_template_status_update"
        | "template_category_update"
        | "message_template_quality_update"
        | "message_template_components_update" => {
            template(field, value, account, at).map_or(Update::Unreadable, Update::Template)
        }
        "account_update" | "phone_number_quality_update" | "account_review_update" => {
            let event = text(value, "event").or_else(|| text(value, "decision"));
            event.map_or(Update::Unreadable, |event| {
                let ban = value.get("ban_info").and_then(|it| text(it, "waba_ban_state"));
                let tier = text(value, "max_daily_conversations_per_business")
                    .or_else(|| text(value, "current_limit"));
                let digits = |shown: String| shown.chars().filter(char::is_ascii_digit).collect();
                let number = text(value, "display_phone_number").map(digits);
                let field = field.to_owned();
                Update::Account(AccountUpdate { account, number, field, event, ban, tier, at })
            })
        }
        "user_id_update" => moved(value),
        // Errors of the account itself, and lists that are empty.
        "messages" => Update::Notice("messages"),
        "account_alerts" => Update::Notice("account_alerts"),
        "account_settings_update" => Update::Notice("account_settings_update"),
        "business_capability_update" => Update::Notice("business_capability_update"),
        "business_status_update" => Update::Notice("business_status_update"),
        "phone_number_name_update" => Update::Notice("phone_number_name_update"),
        "phone_number_username_update" => Update::Notice("phone_number_username_update"),
        "payment_configuration_update" => Update::Notice("payment_configuration_update"),
        "security" => Update::Notice("security"),
        _ => Update::Unknown,
    }
}

fn template(
    field: &str,
    value: &Value,
    account: Option<String>,
    at: i64,
) -> Option<TemplateUpdate> {
    let news = match field {
        "message_template_status_update" => TemplateNews::Status {
            status: text(value, "event")?,
            reason: text(value, "reason").filter(|reason| reason != "NONE"),
        },
        "template_category_update" => TemplateNews::Category {
            current: text(value, "new_category")?,
            next: text(value, "correct_category").map(|next| {
                let from = value.get("category_update_timestamp").and_then(number);
                (next, from.unwrap_or_default())
            }),
        },
        "message_template_quality_update" => {
            TemplateNews::Quality(text(value, "new_quality_score")?)
        }
        _ => TemplateNews::Components,
    };
    Some(TemplateUpdate {
        account,
        name: text(value, "message_template_name")?,
        // `en-US` in webhooks, `en_US` everywhere else.
        language: text(value, "message_template_language")?.replace('-', "_"),
        news,
        at,
    })
}

/// `user_id_update`: a new user id for the same person.
fn moved(item: &Value) -> Update {
    let ids = item.get("user_id").filter(|it| it.is_object()).unwrap_or(item);
    let (before, after) = (text(ids, "previous"), text(ids, "current"));
    let phone = text(item, "wa_id");
    let before = Address::new(None, before);
    let after = Address::new(phone, after);
    if before.is_empty() || after.user_id.is_none() {
        return Update::Unreadable;
    }
    Update::Moved(Moved { before, after, id: String::new(), at: seconds(item) })
}

/// A `system` message: she has another number, or another user id.
fn system(item: &Value, from: Address) -> Update {
    let Some(system) = item.get("system") else { return Update::Unreadable };
    let kind = text(system, "type").unwrap_or_default();
    let after = Address::new(
        text(system, "wa_id").or_else(|| text(system, "new_wa_id")),
        text(system, "user_id"),
    );
    let known = ["user_changed_number", "user_changed_user_id"].contains(&kind.as_str());
    if !known || after.is_empty() {
        return Update::Unknown;
    }
    let id = text(item, "id").unwrap_or_default();
    Update::Moved(Moved { before: from, after, id, at: seconds(item) })
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// A number, which the provider may write as a string.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Seconds since 1970.
fn seconds(value: &Value) -> i64 {
    value.get("timestamp").and_then(number).unwrap_or_default()
}

fn message(item: &Value, contacts: &[Value], number: Option<&str>) -> Update {
    let mut from = Address::new(text(item, "from"), text(item, "from_user_id"))
        .with_parent(text(item, "from_parent_user_id"));
    let mut identity_hash = None;
    // With one contact beside one or more messages it is their sender; it may know the other form.
    if let [contact] = contacts {
        from = from.completed(self::contact(contact));
        identity_hash = text(contact, "identity_key_hash").filter(|hash| !hash.is_empty());
    }
    if from.user_id.is_some() && from.phone.is_none() {
        let shared = Address::new(shared_number(item), from.user_id.clone());
        from = from.completed(shared);
    }
    if !item.is_object() || (from.is_empty() && item.get("type").is_none()) {
        return Update::Unreadable;
    }
    if item.get("type").and_then(Value::as_str) == Some("system") {
        return if from.is_empty() { Update::Unreadable } else { system(item, from) };
    }
    let answers = item.get("context").and_then(|it| text(it, "id"));
    let nameless = from.is_empty();
    let message = Inbound {
        from,
        answers: answers.filter(|id| !id.is_empty()),
        identity_hash,
        number: number.map(str::to_owned),
        id: text(item, "id").unwrap_or_default(),
        said_at: seconds(item),
        by_advertisement: item.get("referral").is_some_and(is_advertisement),
        said: said(item),
        raw: item.clone(),
    };
    if nameless { Update::Nameless(message) } else { Update::Message(message) }
}

/// A post leads people here too; messages after that cost.
fn is_advertisement(referral: &Value) -> bool {
    let is_ad = text(referral, "source_type").is_some_and(|it| it.eq_ignore_ascii_case("ad"));
    is_ad || text(referral, "ctwa_clid").is_some_and(|it| !it.is_empty())
}

/// An entry of `contacts`.
fn contact(contact: &Value) -> Address {
    Address::new(text(contact, "wa_id"), text(contact, "user_id"))
        .with_parent(text(contact, "parent_user_id"))
}

/// The number of a card that she sent because she was asked for her number: that it is hers is the provider's word. A
/// card of any other origin may be anybody's.
fn shared_number(message: &Value) -> Option<String> {
    let [card] = list(message, "contacts") else { return None };
    let [phone] = list(card, "phones") else { return None };
    let is_hers = text(card, "origin").is_some_and(|origin| origin == "contact_request");
    is_hers.then(|| text(phone, "wa_id").or_else(|| text(phone, "phone"))).flatten()
}

/// What a message says: the element as it came.
#[must_use]
pub fn said(item: &Value) -> Said {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let button = |value: &Value, payload, label| Said::Button {
        payload: text(value, payload),
        text: text(value, label),
    };
    let said = match kind {
        "text" => item.get("text").and_then(|it| text(it, "body")).map(Said::Text),
        "button" => item.get("button").map(|it| button(it, "payload", "text")),
        "interactive" => item
            .get("interactive")
            .and_then(|it| it.get("button_reply").or_else(|| it.get("list_reply")))
            .map(|it| button(it, "id", "title")),
        _ => None,
    };
    said.unwrap_or_else(|| {
        Said::Other(KINDS.into_iter().find(|known| *known == kind).unwrap_or("other"))
    })
}

#[derive(Deserialize)]
struct ErrorCode {
    code: i64,
}

fn status(item: &Value, contacts: &[Value]) -> Update {
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

fn preference(item: &Value) -> Update {
    let from = contact(item);
    let marketing = text(item, "category").is_none_or(|it| it == "marketing_messages");
    match item.get("value").and_then(Value::as_str) {
        _ if from.is_empty() => Update::Unreadable,
        Some(value @ ("stop" | "resume")) if marketing => {
            Update::Preference(Preference { from, stop: value == "stop", said_at: seconds(item) })
        }
        _ => Update::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::envelope::Webhook;

    fn updates(value: &str) -> Vec<Update> {
        let body = format!(
            r#"{{"object":"whatsapp_business_account","new":[],"entry":[{{"id":"1","changes":[{{"field":"messages","value":{value}}}]}}]}}"#
        );
        Webhook::read(body.as_bytes()).unwrap().into_updates()
    }

    fn change(field: &str, value: &str) -> Update {
        let body = format!(
            r#"{{"entry":[{{"id":"1","time":1760000000,"changes":[{{"field":"{field}","value":{value}}}]}}]}}"#
        );
        let updates = Webhook::read(body.as_bytes()).unwrap().into_updates();
        assert_eq!(updates.len(), 1);
        updates.into_iter().next().unwrap()
    }

    #[test]
    fn one_element_that_cannot_be_read_does_not_lose_the_others() {
        let all = updates(
            r#"{"messaging_product":"whatsapp","metadata":{"phone_number_id":"7"},
            "messages":[null,7,{"type":"text"},{"from":"33612345678","id":"wamid.A","timestamp":"1760000000","type":"hologram","hologram":{}},
                {"from":"33612345678","id":"wamid.B","timestamp":1760000001,"type":"text","text":{"body":"STOP","more":1}}],
            "statuses":[{},{"id":"wamid.C","status":"delivered","timestamp":"x","errors":[{"code":"no"},{"code":131050}]}]}"#,
        );
        assert_eq!(all.len(), 7);
        let bad = |it: &&Update| matches!(it, Update::Unreadable | Update::Nameless(_));
        assert_eq!(all.iter().filter(bad).count(), 4);
        let Update::Message(stop) = &all[4] else { panic!("a message") };
        assert!(matches!(&stop.said, Said::Text(text) if text == "STOP"));
        assert_eq!(stop.said_at, 1_760_000_001);
        assert_eq!(stop.from.phone.as_deref(), Some("+33612345678"));
        let Update::Status(status) = &all[6] else { panic!("a status") };
        assert_eq!(status.codes, [131_050]);
    }

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

    #[test]
    fn buttons_come_in_three_forms() {
        let all = updates(
            r#"{"messages":[
            {"from":"1","type":"button","button":{"payload":"p","text":"Stop promotions"}},
            {"from":"1","type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":"i","title":"t"}}},
            {"from":"1","type":"interactive","interactive":{"type":"list_reply","list_reply":{"id":"i","title":"t"}}}]}"#,
        );
        for update in &all {
            let Update::Message(message) = update else { panic!("a message") };
            assert!(matches!(&message.said, Said::Button { payload: Some(_), text: Some(_) }));
        }
    }

    #[test]
    fn a_person_known_by_user_id_only_has_an_address() {
        let all = updates(
            r#"{"contacts":[{"profile":{"name":"A"},"wa_id":"","user_id":"FR.abc"}],
            "messages":[{"from":"","from_user_id":"FR.abc","id":"w","timestamp":"1","type":"text","text":{"body":"stop"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert!(message.from == Address::new(None, Some("FR.abc".into())));
    }

    #[test]
    fn a_card_tells_a_number_only_where_the_provider_says_that_it_is_hers() {
        let phone_of = |from: &str, card: &str| {
            let all = updates(&format!(
                r#"{{"messages":[{{{from},"id":"w","type":"contacts","contacts":{card}}}]}}"#
            ));
            let (Update::Message(it) | Update::Nameless(it)) = &all[0] else { panic!("a message") };
            it.from.phone.clone()
        };
        let hers = r#"{"origin":"contact_request","phones":[{"phone":"+33612345678","wa_id":"33612345678"}]}"#;
        let by_id = r#""from_user_id":"FR.abc""#;
        let asked = format!("[{hers}]");
        assert_eq!(phone_of(by_id, &asked).as_deref(), Some("+33612345678"));
        let by_number = r#""from":"33600000001","from_user_id":"FR.abc""#;
        assert_eq!(phone_of(by_number, &asked).as_deref(), Some("+33600000001"), "it is known");
        assert_eq!(phone_of(r#""from":"""#, &asked), None, "nobody says whose it is");
        let others = [
            hers.replace("contact_request", "other"),
            r#"{"phones":[{"wa_id":"33612345678"}]}"#.to_owned(),
            format!("{hers},{hers}"),
            r#"{"origin":"contact_request","phones":[{"wa_id":"1"},{"wa_id":"2"}]}"#.to_owned(),
            r#"{"origin":"contact_request"}"#.to_owned(),
            "7".to_owned(),
        ];
        for cards in others {
            assert_eq!(phone_of(by_id, &format!("[{cards}]")), None, "{cards}");
        }
    }

    #[test]
    fn the_contact_beside_a_message_gives_the_other_form_of_its_address() {
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc"}],
            "messages":[{"from":"33612345678","id":"w","type":"text","text":{"body":"stop"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.from.user_id.as_deref(), Some("FR.abc"));
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc","parent_user_id":"FR.ENT.p","identity_key_hash":"h"}],
            "messages":[{"from":"33612345678","id":"w","type":"text","text":{"body":"hi"},"context":{"id":"wamid.ours"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.from.parent_user_id.as_deref(), Some("FR.ENT.p"));
        assert_eq!(message.identity_hash.as_deref(), Some("h"));
        assert_eq!(message.answers.as_deref(), Some("wamid.ours"));
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc"}],
            "statuses":[{"id":"w","status":"sent","recipient_id":"33612345678"},
                {"id":"w","status":"sent","recipient_id":"33600000000"}]}"#,
        );
        let Update::Status(status) = &all[0] else { panic!("a status") };
        assert_eq!(status.recipient.user_id.as_deref(), Some("FR.abc"));
        let Update::Status(anothers) = &all[1] else { panic!("a status") };
        assert_eq!(anothers.recipient.user_id, None, "the contact is somebody else");
    }

    #[test]
    fn a_message_that_names_nobody_is_kept_apart() {
        let all = updates(
            r#"{"messages":[{"id":"w","type":"text","text":{"body":"STOP"},"context":{"id":"wamid.ours"}}]}"#,
        );
        let Update::Nameless(message) = &all[0] else { panic!("nameless") };
        assert_eq!(message.answers.as_deref(), Some("wamid.ours"));
        assert_eq!(all[0].kind(), "unreadable");
    }

    #[test]
    fn preferences_and_their_other_categories() {
        let all = updates(
            r#"{"user_preferences":[
            {"wa_id":"33612345678","detail":"d","category":"marketing_messages","value":"stop","timestamp":1},
            {"wa_id":"33612345678","category":"marketing_messages","value":"resume","timestamp":1},
            {"wa_id":"33612345678","category":"other","value":"stop","timestamp":1}]}"#,
        );
        assert!(matches!(&all[0], Update::Preference(it) if it.stop));
        assert!(matches!(&all[1], Update::Preference(it) if !it.stop));
        assert!(matches!(&all[2], Update::Unknown));
    }

    #[test]
    fn every_kind_of_message_is_named_and_new_ones_are_other() {
        for kind in KINDS {
            let all = updates(&format!(r#"{{"messages":[{{"from":"1","type":"{kind}"}}]}}"#));
            assert_eq!(all[0].kind(), kind);
        }
        let all = updates(r#"{"messages":[{"from":"1","type":"hologram"}]}"#);
        assert_eq!(all[0].kind(), "other");
        // A click on an advertisement stands beside a text; the raw element keeps it.
        let all = updates(
            r#"{"messages":[{"from":"1","type":"text","text":{"body":"hi"},"referral":{"ctwa_clid":"c"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.raw["referral"]["ctwa_clid"], "c");
    }

    #[test]
    fn a_person_who_moved_is_no_message_of_hers() {
        let all = updates(
            r#"{"messages":[
            {"from":"16505551234","id":"w","timestamp":"7","type":"system","system":{"body":"b","wa_id":"12195555358","type":"user_changed_number"}},
            {"from":"","from_user_id":"US.1","id":"v","type":"system","system":{"user_id":"US.2","type":"user_changed_user_id"}},
            {"from":"16505551234","type":"system","system":{"type":"something_new","wa_id":"1"}}],
            "user_id_update":[{"wa_id":"16505551234","user_id":{"previous":"US.1","current":"US.2"}}, {"previous":"US.3","current":"US.4"}]}"#,
        );
        let Update::Moved(number) = &all[0] else { panic!("moved") };
        assert_eq!(number.before.phone.as_deref(), Some("+16505551234"));
        assert_eq!(number.after.phone.as_deref(), Some("+12195555358"));
        assert_eq!(number.at, 7);
        let Update::Moved(user) = &all[1] else { panic!("moved") };
        assert_eq!(user.after.user_id.as_deref(), Some("US.2"));
        assert!(matches!(&all[2], Update::Unknown));
        assert!(matches!(&all[3], Update::Moved(it) if it.after.phone.is_some()));
        assert!(
            matches!(&all[4], Update::Moved(it) if it.before.user_id.as_deref() == Some("US.3"))
        );
    }

    #[test]
    fn templates_and_the_account_tell_of_themselves() {
        let template = |field, more: &str| {
            let value = format!(
                r#"{{"message_template_id":1,"message_template_name":"n","message_template_language":"en-US"{more}}}"#
            );
            match change(field, &value) {
                Update::Template(it) => {
                    assert_eq!((&*it.name, &*it.language, it.at), ("n", "en_US", 1_760_000_000));
                    it.news
                }
                _ => panic!("a template"),
            }
        };
        assert_eq!(
            template("message_template_status_update", r#","event":"PAUSED","reason":"NONE""#),
            TemplateNews::Status { status: "PAUSED".into(), reason: None }
        );
        assert_eq!(
            template(
                "template_category_update",
                r#","new_category":"UTILITY","correct_category":"MARKETING","category_update_timestamp":1760086400"#
            ),
            TemplateNews::Category {
                current: "UTILITY".into(),
                next: Some(("MARKETING".into(), 1_760_086_400))
            }
        );
        assert_eq!(
            template("message_template_quality_update", r#","new_quality_score":"RED""#),
            TemplateNews::Quality("RED".into())
        );
        assert_eq!(template("message_template_components_update", ""), TemplateNews::Components);
        let value = r#"{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":"DISABLE"}}"#;
        let Update::Account(account) = change("account_update", value) else { panic!("account") };
        assert_eq!(account.ban.as_deref(), Some("DISABLE"));
        let value = r#"{"display_phone_number":"1","event":"FLAGGED","current_limit":"TIER_10K"}"#;
        assert!(matches!(change("phone_number_quality_update", value), Update::Account(_)));
        assert!(matches!(change("security", r#"{"event":"PIN_CHANGED"}"#), Update::Notice(_)));
        assert!(matches!(change("something_new", "{}"), Update::Unknown));
        assert!(matches!(change("account_update", "{}"), Update::Unreadable));
        assert!(matches!(change("message_template_status_update", "7"), Update::Unreadable));
    }
}
