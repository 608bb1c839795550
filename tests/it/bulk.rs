//! Everybody in a file is erased, by the command line and every service: or, with a line that can't be read, nobody.

use assent_tests::cluster::Cluster;
use assent_tests::cluster::person::Person;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_bad_line_erases_nobody_and_the_corrected_one_everybody_in_it() {
    let cluster = Cluster::start().await;
    let people: Vec<Person> = (0..3).map(|_| Person::somebody()).collect();
    for person in &people {
        cluster.import(person).await;
    }
    let (stranger, stays) = (Person::somebody(), &people[2]);
    let file = cluster.dir.join("leavers.csv");
    let bulk = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let what = ["--country", "FR", "--checked", "paper_forms", "--wait"];
        cluster.assent(&[&["request", "bulk", file.to_str().unwrap()][..], &what].concat())
    };
    let bad = format!("phone\n{}\nno number\n{}\n", people[0].phone, people[1].phone);
    let refused = bulk(&bad).await;
    assert_eq!(refused.status, 1, "{}", refused.text);
    assert_eq!(refused.json["rejected"][0]["line"], 3, "{}", refused.text);
    assert!(refused.json.get("bulk").is_none(), "{}", refused.text);
    for person in &people {
        assert!(cluster.subject(person).await.is_some(), "nothing is half taken");
    }

    let good = format!("phone\n{}\n{}\n{}\n", people[0].phone, stranger.phone, people[1].phone);
    let through = bulk(&good).await;
    assert_eq!(through.status, 0, "{}", through.text);
    assert_eq!(through.json["unknown"][0]["line"], 3, "{}", through.text);
    let view = &through.json["bulk"];
    assert_eq!((&view["people"], &view["completed"]), (&json!(2), &json!(2)), "{}", through.text);
    for gone in &people[..2] {
        assert_eq!(cluster.subject(gone).await, None);
    }
    assert!(cluster.subject(stays).await.is_some());
    let id = view["bulk_id"].as_str().unwrap();
    let looked = cluster.assent(&["request", "bulk-progress", id]);
    assert_eq!((looked.status, &looked.json["completed"]), (0, &json!(2)), "{}", looked.text);
}
