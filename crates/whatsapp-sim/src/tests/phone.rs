//! The phone page, with forms alone.

use super::*;

impl Rig {
    async fn page(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.sim)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }

    /// Sends a form of the page as the person; the page that follows.
    async fn acts(&self, form: &str) -> String {
        let answer = self
            .client
            .post(format!("{}/phone/act", self.sim))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("person=%2B33612345678&{form}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }
}

#[tokio::test]
async fn she_reads_writes_and_presses_buttons_without_a_script() {
    let rig = rig().await;
    let components = json!([{"type": "BODY", "text": "Fresh bread, {{1}}!"},
        {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Stop promotions"}]}]);
    let templates = json!([{"name": "news", "language": "fr", "components": components}]);
    rig.client.put(format!("{}/_sim/templates", rig.sim)).json(&templates).send().await.unwrap();
    let mut message = template();
    message["template"]["components"] =
        json!([{"type": "body", "parameters": [{"type": "text", "text": "<Ana>"}]}]);
    rig.send(&message).await.unwrap();
    rig.hears(|body| is_status(body, "delivered")).await;

    let start = rig.page("/").await;
    assert!(start.contains("href=\"/phone?person=33612345678\""), "{start}");
    let chat = rig.page("/phone/chat?person=33612345678").await;
    assert!(
        chat.contains("Fresh bread, &lt;Ana&gt;!") && chat.contains("http-equiv=refresh"),
        "{chat}"
    );
    assert!(chat.contains(">Stop promotions</button>") && !chat.contains("<script"), "{chat}");

    let page = rig.acts("act=write&text=Hello+%3Cb%3E").await;
    assert!(page.contains("window open") && !page.contains("<script"), "{page}");
    let chat = rig.page("/phone/chat?person=33612345678").await;
    assert!(chat.contains("Hello &lt;b&gt;"), "{chat}");
    let heard = rig.hears(|body| value(body)["messages"][0]["type"] == "text").await;
    assert_eq!(value(&heard)["messages"][0]["text"]["body"], "Hello <b>");

    rig.acts("act=button&id=stop-1&text=Stop+promotions&reply_to=wamid.x").await;
    let heard = rig.hears(|body| value(body)["messages"][0]["type"] == "button").await;
    let pressed = &value(&heard)["messages"][0];
    assert_eq!(pressed["button"], json!({"payload": "stop-1", "text": "Stop promotions"}));
    assert_eq!(pressed["context"]["id"], "wamid.x");
}

#[tokio::test]
async fn she_stops_blocks_and_changes_her_number() {
    let rig = rig().await;
    assert!(rig.acts("act=stop").await.contains("promotions stopped"));
    assert_eq!(value(&rig.heard_of("user_preferences")[0])["user_preferences"][0]["value"], "stop");
    assert!(rig.acts("act=resume").await.contains("promotions on"));
    assert!(rig.acts("act=block").await.contains("business blocked"));
    assert!(rig.acts("act=write&text=hi").await.contains("Not sent"));
    assert!(rig.acts("act=unblock").await.contains("Block the business"));
    let page = rig.acts("act=move&to=%2B33687654321").await;
    assert!(page.contains("/phone/chat?person=33687654321"), "{page}");
    let told = rig.hears(|body| value(body)["messages"][0]["type"] == "system").await;
    assert_eq!(value(&told)["messages"][0]["system"]["wa_id"], "33687654321");
}

#[tokio::test]
async fn her_phone_is_turned_off_and_her_number_goes_on_to_somebody_else() {
    let rig = rig().await;
    rig.acts("act=stop").await;
    assert!(rig.acts("act=off").await.contains("phone off"));
    assert!(rig.acts("act=on").await.contains("Turn the phone off"));
    let page = rig.acts("act=recycle").await;
    assert!(page.contains("promotions on"), "whoever has it now stopped nothing: {page}");
    assert!(rig.acts("act=reinstall").await.contains("Set up WhatsApp anew"));
}

#[tokio::test]
async fn a_reset_forgets_everybody() {
    let rig = rig().await;
    rig.acts("act=write&text=hi").await;
    rig.post("/_sim/reset", &json!({})).await;
    assert_eq!(rig.messages().await["messages"], json!([]));
    assert!(!rig.page("/phone").await.contains("33612345678"));
}
