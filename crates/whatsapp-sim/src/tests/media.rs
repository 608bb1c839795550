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
