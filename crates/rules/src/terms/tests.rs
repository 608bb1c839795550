//! Which law, which rule and which day: by example, on the rules that come with Assent.

use super::*;

fn terms(ask: Ask, received: &str, seat: Option<&str>, stated: Option<&str>) -> Terms {
    let place = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    let at = Where { seat: place(seat), stated: place(stated), number: None };
    RuleSet::shipped().unwrap().terms(ask, received.parse().unwrap(), &at).unwrap()
}

fn told(term: &Term) -> String {
    format!("{} {}", term.rule, term.end.on)
}

#[test]
fn trap_14_each_law_has_its_term_for_each_kind_of_request() {
    use Ask::{Access, Erasure, Objection, OptOut, Portability, Rectification, Restriction};
    const RECEIVED: &str = "2026-11-26T10:00:00Z";
    for (seat, ask, answer, extended) in [
        // 26 December is a Saturday.
        ("FR", Access, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", Portability, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", Rectification, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", Restriction, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", Objection, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", OptOut, "gdpr-answer 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("FR", Erasure, "gdpr-erase 2026-12-28", Some("gdpr-extend 2027-02-26")),
        ("GB", Access, "uk-answer 2026-12-29", Some("uk-extend 2027-02-26")),
        ("BR", Access, "lgpd-answer 2026-12-11", None),
        ("RU", Access, "ru-answer 2026-12-10", Some("ru-extend 2026-12-17")),
        ("RU", Rectification, "ru-correct 2026-12-07", None),
        ("RU", Erasure, "ru-erase 2026-12-26", None),
    ] {
        let terms = terms(ask, RECEIVED, Some(seat), None);
        assert_eq!(told(&terms.answer), answer, "{seat} {ask:?}");
        assert_eq!(terms.extended.as_ref().map(told).as_deref(), extended, "{seat} {ask:?}");
        assert!(terms.identity && terms.acknowledge.is_none(), "{seat} {ask:?}");
    }
}

#[test]
fn a_californian_is_acknowledged_in_business_days_and_opts_out_without_a_proof() {
    let access = terms(Ask::Access, "2026-11-23T18:00:00Z", None, Some("US-CA"));
    assert_eq!(access.acknowledge.as_ref().map(told).unwrap(), "ccpa-acknowledge 2026-12-08");
    assert_eq!(told(&access.answer), "ccpa-answer 2027-01-07");
    assert_eq!(access.extended.as_ref().map(told).unwrap(), "ccpa-extend 2027-02-21");
    assert!(access.identity);
    let opt_out = terms(Ask::OptOut, "2026-11-23T18:00:00Z", None, Some("US-CA"));
    assert_eq!(told(&opt_out.answer), "ccpa-opt-out 2026-12-15");
    assert_eq!(opt_out.extended, None, "the term of an opt-out is not extended");
    assert!(!opt_out.identity && opt_out.acknowledge.is_none());
}

#[test]
fn of_several_laws_the_one_that_is_over_first_counts_and_none_lengthens_another() {
    const RECEIVED: &str = "2026-11-23T18:00:00Z";
    let both = terms(Ask::Access, RECEIVED, Some("FR"), Some("US-CA"));
    assert_eq!(told(&both.answer), "gdpr-answer 2026-12-23");
    assert_eq!(both.others.iter().map(told).collect::<Vec<_>>(), ["ccpa-answer 2027-01-07"]);
    // Three months would be the 23rd, 90 days are the 21st.
    assert_eq!(both.extended.as_ref().map(told).unwrap(), "ccpa-extend 2027-02-21");
    let brazil = terms(Ask::Access, RECEIVED, Some("BR"), Some("US-CA"));
    assert_eq!(told(&brazil.answer), "lgpd-answer 2026-12-08");
    assert_eq!(brazil.extended, None, "Brazil's fifteen days stay fifteen");
}

#[test]
fn an_extension_is_counted_from_the_receipt_in_whole_months() {
    let terms = terms(Ask::Access, "2026-12-31T10:00:00Z", Some("NL"), None);
    // The month ends on a Sunday, three months on Wednesday the 31st.
    assert_eq!(terms.answer.end.on.to_string(), "2027-02-01");
    assert_eq!(terms.extended.unwrap().end.on.to_string(), "2027-03-31");
}

#[test]
fn where_no_law_is_known_the_unions_term_is_kept() {
    let terms = terms(Ask::Erasure, "2026-11-26T10:00:00Z", None, None);
    assert_eq!(told(&terms.answer), "gdpr-erase 2026-12-28");
    assert!(
        RuleSet::default().terms(Ask::Access, Timestamp::UNIX_EPOCH, &Where::default()).is_none()
    );
}

#[test]
fn who_hears_complaints_is_the_national_authority_where_it_is_known() {
    let names = |seat| {
        let terms = terms(Ask::Access, "2026-11-26T10:00:00Z", Some(seat), None);
        terms.authorities.into_iter().map(|it| it.name.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(names("FR"), ["CNIL"]);
    assert_eq!(names("AT"), [""], "one of many, which the address lists");
    assert_eq!(names("GB"), ["Information Commissioner's Office"]);
}
