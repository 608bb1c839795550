//! Media, and the messages that carry them.

use super::*;

const BOUNDARY: &str = "boundary-of-a-test";

fn upload(kind: &str, bytes: &str) -> String {
    let part = |head: &str, body: &str| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n")
    };
    [
        part("name=\"messaging_product\"", "whatsapp"),
        part("name=\"type\"", kind),
        part(&format!("name=\"file\"; filename=\"a\"\r\nContent-Type: {kind}"), bytes),
        format!("--{BOUNDARY}--\r\n"),
    ]
    .concat()
}

impl Rig {
    async fn upload(&self, kind: &str, bytes: &str) -> Value {
        let answer = self
            .client
            .post(format!("{}/v26/1065/media", self.sim))
            .bearer_auth("token")
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(upload(kind, bytes))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }
}

#[tokio::test]
async fn media_are_uploaded_found_downloaded_for_five_minutes_and_deleted() {
    let rig = rig().await;
    let uploaded = rig.upload("image/png", "not really a picture").await;
    let id = uploaded["id"].as_str().unwrap();
    let (_, found) = rig.graph("GET", &format!("/{id}"), None).await;
    assert_eq!((&found["file_size"], &found["mime_type"]), (&json!(20), &json!("image/png")));
    let url = found["url"].as_str().unwrap();
    let download = async |token: &str| {
        let answer = rig.client.get(url).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(download("token").await, (200, "not really a picture".to_owned()));
    assert_eq!(download("wrong").await.0, 404);
    rig.post("/_sim/clock", &json!({"advance_s": 300})).await;
    assert_eq!(download("token").await.0, 404);

    assert_eq!(rig.graph("DELETE", &format!("/{id}?phone_number_id=9"), None).await.0, 400);
    assert_eq!(rig.graph("DELETE", &format!("/{id}"), None).await.1, json!({"success": true}));
    assert_eq!(rig.graph("GET", &format!("/{id}"), None).await.1["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn a_message_with_a_file_that_is_kept_no_longer_is_refused() {
    let rig = rig().await;
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let id = rig.upload("image/png", "x").await["id"].clone();
    let free = json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "image", "image": {"id": id}});
    let above = json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "template",
        "template": {"name": "news", "language": {"code": "fr"}, "components": [
            {"type": "header", "parameters": [{"type": "image", "image": {"id": id}}]}]}});
    assert_eq!(rig.send(&free).await.unwrap().0, 200);
    assert_eq!(rig.send(&above).await.unwrap().0, 200);
    rig.post("/_sim/clock", &json!({"advance_s": 30 * 86_400})).await;
    assert_eq!(rig.send(&free).await.unwrap().1["error"]["code"], 100);
    assert_eq!(rig.send(&above).await.unwrap().1["error"]["code"], 131_009);
}

#[tokio::test]
async fn what_a_person_sends_can_be_had_for_a_week() {
    let rig = rig().await;
    let sent = json!({"from": "33612345678", "media": {"type": "image", "mime_type": "image/png", "base64": "YWJj", "caption": "mine"}});
    assert_eq!(rig.post("/_sim/inbound", &sent).await.0, 200);
    let heard = rig.hears(|body| value(body)["messages"][0]["type"] == "image").await;
    let image = value(&heard)["messages"][0]["image"].clone();
    assert_eq!(image["caption"], "mine");
    let path = format!("/{}", image["id"].as_str().unwrap());
    assert_eq!(rig.graph("GET", &path, None).await.1["sha256"], image["sha256"]);
    rig.post("/_sim/clock", &json!({"advance_s": 7 * 86_400})).await;
    assert_eq!(rig.graph("GET", &path, None).await.1["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn an_example_is_uploaded_in_a_session_of_its_length() {
    let rig = rig().await;
    let (status, begun) = rig
        .graph("POST", "/6708/uploads?file_length=3&file_type=image%2Fpng", Some(json!({})))
        .await;
    assert_eq!(status, 200, "{begun}");
    let finish = async |token: &str, body: &'static str| {
        let url = format!("{}/v26/{}", rig.sim, begun["id"].as_str().unwrap());
        let request = rig.client.post(url).header("authorization", token);
        let answer = request.header("file_offset", "0").body(body).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(finish("Bearer token", "abc").await["error"]["code"], 190);
    assert_eq!(finish("OAuth token", "ab").await["error"]["code"], 100);
    assert!(finish("OAuth token", "abc").await["h"].as_str().unwrap().starts_with("4::"));
    let other = "/6708/uploads?file_length=3&file_type=image%2Fgif";
    assert_eq!(rig.graph("POST", other, Some(json!({}))).await.1["error"]["code"], 100);
}

#[tokio::test]
async fn what_is_no_medium_for_a_message_is_refused_or_fails() {
    let rig = rig().await;
    assert_eq!(rig.upload("application/x-sh", "#").await["error"]["code"], 100);
    assert_eq!(rig.upload("image/png", "").await["error"]["code"], 131_053);
    let pdf = rig.upload("application/pdf", "%PDF").await["id"].clone();
    rig.post("/_sim/inbound", &json!({"from": "33612345678", "text": "hi"})).await;
    let image = |id: &Value| json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "image", "image": {"id": id}});
    assert_eq!(rig.send(&image(&json!("1"))).await.unwrap().1["error"]["code"], 100);
    assert_eq!(rig.send(&image(&pdf)).await.unwrap().0, 200);
    let failed = rig.hears(|body| is_status(body, "failed")).await;
    assert_eq!(value(&failed)["statuses"][0]["errors"][0]["code"], 131_053);
    let document = json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "document",
        "document": {"id": pdf, "filename": "terms.pdf"}});
    let (_, sent) = rig.send(&document).await.unwrap();
    let id = &sent["messages"][0]["id"];
    rig.hears(|body| is_status(body, "read") && value(body)["statuses"][0]["id"] == *id).await;
}
