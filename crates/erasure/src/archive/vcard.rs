//! Contact data as a vCard (RFC 6350): what other programs take in.

use assent_contracts::api::holdings::Holding;
use serde_json::Value;

/// The card of a contact.
pub fn card(contact: &Holding) -> String {
    let field = |name: &str| contact.data.get(name).and_then(Value::as_str).map(escaped);
    let phone = field("phone");
    let name = field("name").or_else(|| phone.clone()).unwrap_or_default();
    let mut card = format!("BEGIN:VCARD\r\nVERSION:4.0\r\nFN:{name}\r\n");
    if let Some(phone) = phone {
        card.push_str(&format!("TEL;VALUE=text;TYPE=cell:{phone}\r\n"));
    }
    if let Some(email) = field("email") {
        card.push_str(&format!("EMAIL:{email}\r\n"));
    }
    card.push_str("END:VCARD\r\n");
    card
}

/// RFC 6350, 3.4.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ',' | ';' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}
