use serde_json::{Value, json};

use super::*;

fn whole() -> Value {
    json!({"name": "spring_offer", "language": "fr", "category": "MARKETING",
        "header": {"type": "text", "text": "Hello {{1}}", "examples": ["Ada"]},
        "body": {"text": "Spring is here, {{1}}: {{2}} off.", "examples": ["Ada", "10 %"]},
        "footer": "Example",
        "buttons": [{"type": "quick_reply", "text": "Stop promotions"},
            {"type": "url", "text": "See", "url": "https://a.example/{{1}}", "example": "https://a.example/x"},
            {"type": "phone_number", "text": "Call", "phone_number": "+33900000001"},
            {"type": "copy_code", "example": "SPRING"}],
        "ttl_seconds": 43_200})
}

fn check(draft: Value) -> Result<(), Fault> {
    serde_json::from_value::<TemplateDraft>(draft).map_err(|error| error.to_string())?.check()
}

#[test]
fn what_the_provider_would_take_up_passes() {
    assert_eq!(check(whole()), Ok(()));
    let card = |name: &str| {
        json!({"header": {"type": "image", "example": "4::aW"},
            "body": {"text": "Our {{thing}} here", "examples": [{"name": "thing", "text": name}]},
            "buttons": [{"type": "quick_reply", "text": "Stop"}]})
    };
    let carousel = json!({"name": "a", "language": "pt_BR", "category": "UTILITY",
        "body": {"text": "Look"}, "cards": [card("bread"), card("cake")]});
    assert_eq!(check(carousel), Ok(()));
}

#[test]
fn what_it_would_refuse_is_told_by_its_field() {
    let text = |text: &str, examples: Value| json!({"text": text, "examples": examples});
    let named = |name: &str| json!([{"name": name, "text": "x"}]);
    let url = |url: &str, example: Value| json!([{"type": "url", "text": "a", "url": url, "example": example}]);
    let quick = json!({"type": "quick_reply", "text": "a"});
    let page = json!({"type": "url", "text": "a", "url": "https://a.example"});
    let card = json!({"header": {"type": "location"}, "body": {"text": "a"}, "buttons": [quick]});
    for (field, value, fault) in [
        ("name", json!("Spring"), "name"),
        ("language", json!("pt-BR"), "language"),
        ("ttl_seconds", json!(30), "ttl_seconds"),
        (
            "header",
            json!({"type": "text", "text": "{{1}} {{2}}", "examples": ["a", "b"]}),
            "header.text",
        ),
        ("header", json!({"type": "text", "text": "x".repeat(61)}), "header.text"),
        ("header", json!({"type": "image", "example": ""}), "header.example"),
        ("body", text("", json!([])), "body.text"),
        ("body", text(&"x".repeat(1025), json!([])), "body.text"),
        ("body", text("{{1}} hello", json!(["a"])), "body.text"),
        ("body", text("hello {{1}}", json!(["a"])), "body.text"),
        ("body", text("a {{1}} b", json!([])), "body.examples"),
        ("body", text("a {{2}} b", json!(["a"])), "body.examples"),
        ("body", text("a {{1}} b", json!([""])), "body.examples"),
        ("body", text("a {{City}} b", named("City")), "header.examples"),
        ("footer", json!("a {{1}} b"), "footer"),
        ("buttons", json!([quick, page, quick]), "buttons: quick replies"),
        ("buttons", json!([page, page, page]), "buttons: 2 pages"),
        ("buttons", json!(vec![quick.clone(); 11]), "buttons: 10"),
        ("buttons", json!([{"type": "quick_reply", "text": "x".repeat(26)}]), "buttons.text"),
        ("buttons", url("http://a.example", json!(null)), "buttons.url"),
        ("buttons", url("https://a.example/{{1}}/b", json!("x")), "buttons.url"),
        ("buttons", url("https://a.example/{{1}}", json!(null)), "buttons.example"),
        (
            "buttons",
            json!([{"type": "phone_number", "text": "a", "phone_number": "0900"}]),
            "buttons.phone_number",
        ),
        ("cards", json!([card.clone()]), "cards: 2 to 10"),
        ("cards", json!([card.clone(), card]), "cards: beside them"),
    ] {
        let mut draft = whole();
        draft[field] = value;
        let found = check(draft).unwrap_err();
        assert!(found.starts_with(fault), "{field}: {found}, not {fault}");
    }
    assert!(check(json!({"name": "a", "more": 1})).is_err());
    let mut bare = whole();
    bare.as_object_mut().unwrap().remove("body");
    assert_eq!(check(bare).unwrap_err(), "body: it is needed");
}

#[test]
fn a_code_stands_alone_in_its_category() {
    let code = |code: Value| json!({"name": "login", "language": "fr", "category": "AUTHENTICATION", "ttl_seconds": 60, "code": code});
    let app = json!({"package_name": "com.example.app", "signature_hash": "K8a/AINcGX7"});
    let button = |more: Value| {
        let mut button = json!({"text": "Copy", "autofill_text": "Fill in", "apps": [app]});
        button.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"button": button, "expires_minutes": 10, "security_recommendation": true})
    };
    assert_eq!(check(code(json!({"button": {"type": "copy_code"}}))), Ok(()));
    assert_eq!(check(code(button(json!({"type": "one_tap"})))), Ok(()));
    assert_eq!(check(code(button(json!({"type": "zero_tap", "terms_accepted": true})))), Ok(()));
    let apps = |apps: Value| code(button(json!({"type": "one_tap", "apps": apps})));
    let hash = |text: &str| json!([{"package_name": "com.example", "signature_hash": text}]);
    for (draft, fault) in [
        (code(button(json!({"type": "zero_tap", "terms_accepted": false}))), "code.button.terms"),
        (apps(json!([])), "code.button.apps: 1 to 5"),
        (apps(hash("short")), "code.button.apps.signature_hash"),
        (
            apps(json!([{"package_name": "example", "signature_hash": "K8a/AINcGX7"}])),
            "code.button.apps.package_name",
        ),
        (code(button(json!({"type": "one_tap", "text": "x".repeat(26)}))), "code.button.text"),
        (code(json!({"button": {"type": "copy_code"}, "expires_minutes": 91})), "code.expires"),
    ] {
        let found = check(draft.clone()).unwrap_err();
        assert!(found.starts_with(fault), "{draft}: {found}");
    }
    let copy = json!({"button": {"type": "copy_code"}});
    for (field, value, fault) in [
        ("footer", json!("f"), "code: nothing stands beside"),
        ("body", json!({"text": "a"}), "code: nothing stands beside"),
        ("category", json!("UTILITY"), "code: in category"),
        ("code", json!(null), "code: in category"),
        ("ttl_seconds", json!(901), "ttl_seconds"),
    ] {
        let mut draft = code(copy.clone());
        draft[field] = value;
        let found = check(draft).unwrap_err();
        assert!(found.starts_with(fault), "{field}: {found}");
    }
}
