//! A number that goes on to somebody else, WhatsApp set up anew, a phone that is off.

use super::*;

const NUMBER: &str = "33612345678";

impl Rig {
    /// She writes; what the business is told of her.
    async fn writes(&self, id: &str) -> Value {
        let (status, _) =
            self.post("/_sim/inbound", &json!({"from": NUMBER, "text": "hi", "id": id})).await;
        assert_eq!(status, 200);
        let heard = self.hears(|body| value(body)["messages"][0]["id"] == id).await;
        value(&heard)["contacts"][0].clone()
    }

    async fn fate_is(&self, path: &str, more: Value) {
        let mut body = json!({"from": NUMBER});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.post(path, &body).await;
        assert_eq!(status, 204, "{answer}");
    }
}

#[tokio::test]
async fn a_recycled_number_is_another_account_that_chose_nothing() {
    let rig = rig().await;
    let before = rig.writes("wamid.1").await;
    rig.post("/_sim/preferences", &json!({"from": NUMBER, "value": "stop"})).await;
    rig.fate_is("/_sim/recycle", json!({"name": "Bob"})).await;
    let page = rig.client.get(format!("{}/phone?person={NUMBER}", rig.sim)).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("Bob") && page.contains("window closed · promotions on"), "{page}");
    let after = rig.writes("wamid.2").await;
    assert_eq!((&after["wa_id"], &after["profile"]["name"]), (&json!(NUMBER), &json!("Bob")));
    assert_ne!(after["user_id"], before["user_id"]);
    // What is sent to the account that is no more reaches nobody.
    let mut message = template();
    message.as_object_mut().unwrap().remove("to");
    message["recipient"] = before["user_id"].clone();
    assert_eq!(rig.send(&message).await.unwrap().0, 200);
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_026);
    let (status, _) = rig.post("/_sim/recycle", &json!({"from": "FR.abc123"})).await;
    assert_eq!(status, 400, "a BSUID goes on to nobody");
}

#[tokio::test]
async fn the_identity_hash_changes_when_she_sets_up_whatsapp_anew_and_is_told_where_it_is_checked()
{
    let rig = rig().await;
    assert_eq!(rig.writes("wamid.1").await.get("identity_key_hash"), None);
    let (status, _) = rig.post("/_sim/number", &json!({"checks_identity": true})).await;
    assert_eq!(status, 204);
    let first = rig.writes("wamid.2").await["identity_key_hash"].clone();
    assert!(first.is_string());
    assert_eq!(rig.writes("wamid.3").await["identity_key_hash"], first);
    rig.fate_is("/_sim/reinstall", json!({})).await;
    let second = rig.writes("wamid.4").await;
    assert!(second["identity_key_hash"].is_string() && second["identity_key_hash"] != first);
    rig.fate_is("/_sim/recycle", json!({})).await;
    let third = rig.writes("wamid.5").await;
    assert_ne!(third["identity_key_hash"], second["identity_key_hash"]);
    assert!(rig.heard_of("phone_number_quality_update").is_empty());
}

#[tokio::test]
async fn what_waits_for_a_phone_arrives_at_whoever_has_the_number_by_then() {
    let rig = rig().await;
    rig.fate_is("/_sim/phone", json!({"off": true})).await;
    let (_, sent) = rig.send(&template()).await.unwrap();
    let first = sent["messages"][0]["id"].clone();
    let of = |body: &Value, id: &Value, status: &str| {
        is_status(body, status) && value(body)["statuses"][0]["id"] == *id
    };
    let told = rig.hears(|body| of(body, &first, "sent")).await;
    let hers = value(&told)["contacts"][0]["user_id"].clone();
    // Somebody else's message is read by then, and hers isn't delivered.
    let mut other = template();
    other["to"] = json!("+33699999999");
    let (_, sent) = rig.send(&other).await.unwrap();
    rig.hears(|body| of(body, &sent["messages"][0]["id"], "read")).await;
    assert_eq!(rig.messages().await["messages"][0]["statuses"], json!(["sent"]));

    let moved = json!({"from": NUMBER, "to": "+33687654321"});
    assert_eq!(rig.post("/_sim/change_number", &moved).await.0, 200);
    rig.fate_is("/_sim/recycle", json!({})).await;
    let told = rig.hears(|body| of(body, &first, "read")).await;
    assert_eq!(value(&told)["contacts"][0]["wa_id"], NUMBER);
    assert_ne!(value(&told)["contacts"][0]["user_id"], hers);
    assert_eq!(
        rig.messages().await["messages"][0]["statuses"],
        json!(["sent", "delivered", "read"])
    );
}
