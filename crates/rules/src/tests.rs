use std::collections::BTreeSet;

use jiff::civil::date;

use crate::{Because, Change, Facts, Place, RuleSet, difference};

const EXAMPLES: &str = "
    [[example]]
    says = \"It is there\"
    on = \"2026-01-01\"
    seat = \"AT\"
";

fn rule(id: &str, value: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\narticle = \"Article 1\"\nfrom = \"2020-01-01\"\n\
         source = \"https://law.example/1\"\nvalue = {value}\nsays = \"So it is.\"\n"
    )
}

fn file(id: &str, rules: &[String]) -> String {
    format!(
        "id = \"{id}\"\nname = \"Law of {id}\"\nreach.seat_or_person = [\"AT\"]\n{}",
        rules.concat()
    )
}

fn facts() -> Facts {
    let seat = Some("AT".parse::<Place>().unwrap());
    Facts { on: date(2026, 1, 1), seat, stated: None, number: None }
}

fn reasons(faults: &[crate::Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_comes_with_assent_is_sound_and_every_rule_has_an_example_that_holds() {
    let set = RuleSet::shipped().map_err(|faults| reasons(&faults)).unwrap();
    let (count, unspoken, failed) = set.test(|_| true);
    assert!(count > set.files().count());
    assert_eq!(unspoken, BTreeSet::new());
    assert_eq!(failed, []);
}

#[test]
fn an_example_fails_when_its_rule_says_something_else() {
    let shipped = RuleSet::shipped().unwrap();
    let changed = include_str!("../rules/fr.toml").replace("consent_age = 15", "consent_age = 14");
    let mut set = shipped.clone();
    set.add("fr", &changed, Some(include_str!("../rules/fr.examples.toml"))).unwrap();
    let (.., failed) = set.test(|_| true);
    assert_eq!(failed[0].reasons, ["`fr-consent-age` comes to 14 years, not 15 years"]);
    assert_ne!(set.hash(), shipped.hash());
    let changes = difference(&shipped, &set);
    assert!(
        matches!(&changes[..], [Change::Changed { after, .. }] if after.id == "fr-consent-age")
    );
}

#[test]
fn the_strictest_counts_and_the_others_are_named() {
    let mut set = RuleSet::default();
    let ages = [("one", "one-age", 14), ("two", "two-age", 16), ("three", "three-age", 13)];
    for (name, id, age) in ages {
        let rules = [rule(id, &format!("{{ consent_age = {age} }}"))];
        set.add(name, &file(name, &rules), Some(EXAMPLES)).unwrap();
    }
    let answers = set.answers(&facts());
    assert_eq!(answers.answers[0].strictest.rule.id, "two-age");
    let others: Vec<&str> =
        answers.answers[0].others.iter().map(|it| it.rule.id.as_str()).collect();
    assert_eq!(others, ["one-age", "three-age"]);
}

#[test]
fn keeping_longer_than_data_may_stay_is_a_named_conflict() {
    let mut set = RuleSet::default();
    let kept = "{ keep_at_least = { what = \"logs\", period = \"1 year\" } }";
    set.add("keeps", &file("keeps", &[rule("keep", kept)]), Some(EXAMPLES)).unwrap();
    assert_eq!(set.answers(&facts()).conflicts, [], "nothing must go yet");
    let erases = file("erases", &[rule("erase", "{ erase_within = \"30 days\" }")]);
    set.add("erases", &erases, Some(EXAMPLES)).unwrap();
    let conflicts = set.answers(&facts()).conflicts;
    assert_eq!(conflicts[0].between, ["keep", "erase"]);
    let patient = file("erases", &[rule("erase", "{ erase_within = \"2 years\" }")]);
    set.add("erases", &patient, Some(EXAMPLES)).unwrap();
    assert_eq!(set.answers(&facts()).conflicts, [], "both can be obeyed");
}

#[test]
fn a_number_is_a_guess_and_a_statement_is_none() {
    let set = RuleSet::shipped().unwrap();
    let place = |text: &str| Some(text.parse::<Place>().unwrap());
    let asked = |stated, number| {
        set.applicable(&Facts { on: date(2026, 11, 26), seat: None, stated, number })
            .into_iter()
            .map(|law| (law.jurisdiction, law.because, law.certain))
            .collect::<Vec<_>>()
    };
    let whatsapp = ("whatsapp".to_owned(), vec![Because::Always], true);
    let number = vec![Because::Number("RU".parse().unwrap())];
    assert_eq!(asked(None, place("RU")), [("ru".to_owned(), number, false), whatsapp.clone()]);
    let stated = vec![Because::PersonStated("BR".parse().unwrap())];
    let brazil = ("br".to_owned(), stated, true);
    assert_eq!(asked(place("BR"), place("RU")), [brazil, whatsapp.clone()]);
    let perhaps = vec![Because::PersonMayBeThere("US".parse().unwrap())];
    let california = ("us-ca".to_owned(), perhaps, false);
    assert_eq!(asked(place("US"), None), [california, whatsapp]);
}

#[test]
fn who_tells_less_never_gets_a_laxer_answer() {
    let set = RuleSet::shipped().unwrap();
    let place = |text: &str| Some(text.parse::<Place>().unwrap());
    let age = |seat: &str, stated: Option<&str>, number: Option<&str>| {
        let (stated, number) = (stated.and_then(place), number.and_then(place));
        let facts = Facts { on: date(2026, 11, 26), seat: place(seat), stated, number };
        let answers = set.answers(&facts).answers.into_iter();
        let ages = answers.filter(|answer| answer.topic.to_string() == "consent_age");
        ages.map(|answer| answer.strictest.rule.value.strictness(facts.on)).max().unwrap_or(0)
    };
    let places = ["AT", "BE", "DE", "ES", "FR", "GB", "IT", "NL", "RE"];
    for seat in places {
        for person in places {
            let known = age(seat, Some(person), None);
            let guessed = age(seat, None, Some(person));
            assert!(guessed >= known, "{seat} {person}: {guessed} by a guess, {known} by her word");
        }
    }
    assert_eq!(age("FR", None, None), 16);
    assert_eq!(age("FR", Some("FR"), None), 15);
}

#[test]
fn what_is_added_does_not_fail_the_examples_of_what_was_there() {
    let mut set = RuleSet::shipped().unwrap();
    let house = file("house", &[rule("house-age", "{ consent_age = 18 }")])
        .replace("reach.seat_or_person = [\"AT\"]", "reach = \"always\"");
    let example = format!("{EXAMPLES}[example.strictest]\nhouse-age = {{ consent_age = 18 }}\n");
    set.add("house", &house, Some(&example)).unwrap();
    let (count, unspoken, failed) = set.test(|id| id == "house");
    assert_eq!((count, unspoken, failed), (1, BTreeSet::new(), Vec::new()));
    assert_eq!(RuleSet::shipped().unwrap().test(|_| true).2, []);
}

#[test]
fn every_fault_is_told_with_its_place() {
    let age = |id: &str| rule(id, "{ consent_age = 14 }");
    let add = |name: &str, rules: &str, examples: Option<&str>| {
        reasons(&RuleSet::default().add(name, rules, examples).unwrap_err())
    };
    let wrong = file("one", &[rule("a", "{ consent_aeg = 14 }")]);
    let told = add("one", &wrong, Some(EXAMPLES));
    assert!(told.starts_with("one.toml:9: unknown variant `consent_aeg`"), "{told}");
    let wrong = file("one", &[rule("a", "{ stop_within = \"soon\" }")]);
    let told = add("one", &wrong, Some(EXAMPLES));
    assert!(told.contains("`soon` is no period"), "{told}");
    let told = add("one", &file("one", &[age("a"), age("b")]), Some(EXAMPLES));
    assert!(told.contains("`a` and `b` answer the same question"), "{told}");
    let told = add("one", &file("one", &[age("a")]), None);
    assert!(told.contains("no examples beside it"), "{told}");
    let told = add("two", &file("one", &[age("a")]), Some(EXAMPLES));
    assert!(told.contains("must be named one.toml"), "{told}");
    let told = add("one", &file("one", &[age("a").replace("https", "http")]), Some(EXAMPLES));
    assert!(told.contains("no https address"), "{told}");
    let backwards = age("a").replace("source", "until = \"2019-01-01\"\nsource");
    let told = add("one", &file("one", &[backwards]), Some(EXAMPLES));
    assert!(told.contains("ends before it begins"), "{told}");

    let nobody = file("one", &[age("a")]).replace("[\"AT\"]", "[]");
    let told = add("one", &nobody, Some(EXAMPLES));
    assert!(told.contains("it reaches nobody"), "{told}");

    let mut set = RuleSet::default();
    set.add("one", &file("one", &[age("a")]), Some(EXAMPLES)).unwrap();
    let refining = file("two", &[age("a")]).replace("reach", "refines = \"none\"\nreach");
    set.add("two", &refining, Some(EXAMPLES)).unwrap();
    let told = reasons(&set.faults());
    assert!(told.contains("refines `none`, which isn't there"), "{told}");
    assert!(told.contains("rule `a` is in one.toml too"), "{told}");
}

#[test]
fn one_rule_follows_another_without_a_gap_or_an_overlap() {
    let first =
        rule("old", "{ consent_age = 16 }").replace("source", "until = \"2026-01-01\"\nsource");
    let second = rule("new", "{ consent_age = 15 }").replace("2020-01-01", "2026-01-01");
    let mut set = RuleSet::default();
    set.add("one", &file("one", &[first, second]), Some(EXAMPLES)).unwrap();
    let counting = |day| {
        let facts = Facts { on: day, ..facts() };
        set.answers(&facts).answers[0].strictest.rule.id.clone()
    };
    assert_eq!(counting(date(2025, 12, 31)), "old");
    assert_eq!(counting(date(2026, 1, 1)), "new");
}

#[test]
fn a_folder_adds_replaces_and_tells_every_fault_at_once() {
    let dir = std::env::temp_dir().join(format!("assent-rules-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let own = |set: &RuleSet| set.files().map(|file| file.id.clone()).collect::<Vec<_>>();
    write("at.toml", &file("at", &[rule("at-age", "{ consent_age = 14 }")]));
    write("at.examples.toml", EXAMPLES);
    let changed = include_str!("../rules/fr.toml").replace("consent_age = 15", "consent_age = 14");
    write("fr.toml", &changed);
    write("fr.examples.toml", include_str!("../rules/fr.examples.toml"));
    let (shipped, set) = (RuleSet::shipped().unwrap(), RuleSet::with_own(Some(&dir)).unwrap());
    assert_eq!(own(&set).len(), own(&shipped).len() + 1);
    assert_eq!(difference(&shipped, &set).len(), 2, "one rule is new, one is another");

    write("README.md", "not a rule");
    write("de.examples.toml", EXAMPLES);
    write("it.toml", "id = 1");
    write("es.toml", &file("es", &[]));
    let told = reasons(&RuleSet::with_own(Some(&dir)).unwrap_err());
    for fault in ["README.md", "there is no de.toml", "it.toml:1", "es.toml has no examples"] {
        assert!(told.contains(fault), "{fault} in {told}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let told = reasons(&RuleSet::with_own(Some(&dir)).unwrap_err());
    assert!(told.contains("assent-rules-"), "{told}");
}
