//! Scenarios, and what goes wrong in them.

use super::*;

impl Rig {
    async fn play(&self, scenario: &'static str) -> u16 {
        let url = format!("{}/_sim/scenario", self.sim);
        self.client.post(url).body(scenario).send().await.unwrap().status().as_u16()
    }

    /// The statuses of a message, as the webhook heard them.
    fn statuses_of(&self, id: &Value) -> Vec<String> {
        let heard = self.heard.0.lock().unwrap();
        let hers = heard.bodies.iter().map(|body| value(body)["statuses"][0].clone());
        hers.filter(|it| it["id"] == *id)
            .map(|it| it["status"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn sent(&self) -> Value {
        self.send(&template()).await.unwrap().1["messages"][0]["id"].clone()
    }
}

#[tokio::test]
async fn a_scenario_file_sets_faults_statuses_limits_and_templates() {
    let rig = rig().await;
    let scenario = r#"
        [statuses]
        statuses = ["sent"]
        delay_ms = 0

        [limits]
        per_pair = true

        [[templates]]
        name = "news"
        language = "fr"
        category = "UTILITY"

        [[fault]]
        kind = "error"
        code = 131016
        nth = 2

        [[fault]]
        kind = "error"
        code = 130429
        for_to = "+33 6 99 99 99 99"
        every = 1
    "#;
    assert_eq!(rig.play(scenario).await, 204);
    let code = async |message: &Value| rig.send(message).await.unwrap().1["error"]["code"].clone();
    assert_eq!(code(&template()).await, Value::Null);
    assert_eq!(code(&template()).await, 131_016);
    assert_eq!(code(&template()).await, Value::Null);
    let mut hers = template();
    hers["to"] = json!("+33699999999");
    assert_eq!(code(&hers).await, 130_429);
    assert_eq!(code(&hers).await, 130_429);
    let mut other = template();
    other["template"]["name"] = json!("olds");
    assert_eq!(code(&other).await, 132_001);
    assert_eq!(rig.get("/_sim/limits").await["per_pair"], true);
    assert_eq!(rig.play("[[fault]]\nkind = \"earthquake\"").await, 400);
    // What was injected isn't the client's fault.
    assert_eq!(rig.violations().await, json!({"template_unknown": 1}));
}

#[tokio::test]
async fn statuses_come_twice_disordered_or_never() {
    let rig = rig().await;
    rig.play("[[fault]]\nkind = \"duplicate_statuses\"").await;
    let twice = rig.sent().await;
    rig.until(|| rig.statuses_of(&twice).len() == 6).await;
    assert_eq!(rig.statuses_of(&twice), ["sent", "sent", "delivered", "delivered", "read", "read"]);

    rig.play("[[fault]]\nkind = \"disorder_statuses\"").await;
    let disordered = rig.sent().await;
    rig.until(|| rig.statuses_of(&disordered).len() == 3).await;
    let mut statuses = rig.statuses_of(&disordered);
    assert_ne!(statuses, ["sent", "delivered", "read"]);
    statuses.sort();
    assert_eq!(statuses, ["delivered", "read", "sent"]);

    rig.play("[[fault]]\nkind = \"lose_statuses\"").await;
    let lost = rig.sent().await;
    let after = rig.sent().await;
    rig.until(|| rig.statuses_of(&after).len() == 3).await;
    assert_eq!(rig.statuses_of(&lost), [""; 0]);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_turns() {
    let share = "[[fault]]\nkind = \"error\"\ncode = 131016\nshare = 0.5";
    let run = async |seed| {
        let scenario = Scenario::parse(share).unwrap();
        let rig = rig_with(|options| {
            options.seed = Some(seed);
            options.scenario = Some(scenario);
        })
        .await;
        let mut turns = Vec::new();
        for _ in 0..24 {
            turns.push(rig.send(&template()).await.unwrap().0);
        }
        (turns, rig.messages().await["messages"][0]["wamid"].clone())
    };
    let first = run(7).await;
    assert!(first.0.contains(&200) && first.0.contains(&500));
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
}
