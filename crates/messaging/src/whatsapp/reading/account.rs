//! What the provider tells of the account and its templates. It guarantees that what is for people to read is told from
//! what this version doesn't know.

use serde_json::Value;

use super::fields::{number, text};
use super::people::moved;
use crate::whatsapp::updates::{AccountUpdate, TemplateNews, TemplateUpdate, Update};

/// A change that is no list of updates.
pub(super) fn other(entry: &Value, change: &Value, value: &Value) -> Update {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::reading::tests::change;

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
