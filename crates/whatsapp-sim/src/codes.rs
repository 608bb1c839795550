//! Templates with one-time codes: given without words, kept and shown in Meta's own, with a link for the button.

use serde_json::{Value, json};

use crate::graph_error::GraphError;

/// The components as Meta keeps them, in this category.
pub fn kept(components: Vec<Value>, category: &str) -> Result<Vec<Value>, GraphError> {
    let buttons = components.iter().filter_map(|it| it["buttons"].as_array()).flatten();
    let codes = buttons.clone().filter(|it| is(it, "type", "OTP")).count();
    let refuse = |details: &str| {
        let title = "Message template components are incorrect";
        Err(GraphError::of_management(2_388_043, title, details.to_owned()))
    };
    match (category == "AUTHENTICATION", codes, buttons.count()) {
        (false, 0, _) => return Ok(components),
        (true, 1, 1) => {}
        (true, ..) => return refuse("An authentication template has one OTP button and no other."),
        (false, ..) => return refuse("OTP buttons are for authentication templates."),
    }
    if components.iter().any(|it| !it["text"].is_null() || is(it, "type", "HEADER")) {
        return refuse("The words of an authentication template are fixed.");
    }
    components.into_iter().map(component).collect()
}

fn is(value: &Value, key: &str, wanted: &str) -> bool {
    value[key].as_str().is_some_and(|it| it.eq_ignore_ascii_case(wanted))
}

fn component(mut component: Value) -> Result<Value, GraphError> {
    if is(&component, "type", "BODY") {
        let mut text = "*{{1}}* is your verification code.".to_owned();
        if component["add_security_recommendation"] == json!(true) {
            text.push_str(" For your security, do not share this code.");
        }
        component["text"] = json!(text);
        component["example"] = json!({"body_text": [["123456"]]});
    } else if is(&component, "type", "FOOTER") {
        let minutes = component["code_expiration_minutes"].as_i64();
        let minutes = minutes.filter(|it| (1..=90).contains(it)).ok_or_else(|| {
            GraphError::new(100, "code_expiration_minutes must be between 1 and 90")
        })?;
        component["text"] = json!(format!("This code expires in {minutes} minutes."));
    } else if is(&component, "type", "BUTTONS") {
        let link = link(&component["buttons"][0])?;
        component["buttons"] = json!([link]);
    }
    Ok(component)
}

/// The link that Meta makes of a button.
fn link(button: &Value) -> Result<Value, GraphError> {
    let wrong = |what: &str| Err(GraphError::new(100, format!("OTP button: {what}")));
    let way = button["otp_type"].as_str().unwrap_or_default().to_ascii_uppercase();
    let apps = button["supported_apps"].as_array().map_or(&[][..], Vec::as_slice);
    let hash = |app: &Value| app["signature_hash"].as_str().is_some_and(|it| it.len() == 11);
    match way.as_str() {
        "COPY_CODE" => {}
        "ONE_TAP" | "ZERO_TAP" if apps.is_empty() || apps.len() > 5 || !apps.iter().all(hash) => {
            return wrong("supported_apps are 1 to 5, each with a signature_hash");
        }
        "ZERO_TAP" if button["zero_tap_terms_accepted"] != json!(true) => {
            return wrong("zero_tap_terms_accepted must be true");
        }
        "ONE_TAP" | "ZERO_TAP" => {}
        _ => return wrong("otp_type must be COPY_CODE, ONE_TAP or ZERO_TAP"),
    }
    let address = format!("https://www.whatsapp.com/otp/code/?otp_type={way}&code=otp");
    let text = button["text"].as_str().unwrap_or("Copy code");
    Ok(json!({"type": "URL", "text": text, "url": format!("{address}{{{{1}}}}"),
        "example": [format!("{address}123456")]}))
}
