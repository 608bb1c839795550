//! Purposes and the notices that people are shown for them. It guarantees that a notice is never
//! edited in place: another text or locale is another version with another hash; whether a text
//! tells people what the law wants is left to the controller.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::api::consent::{CONSENT_REQUEST, STOP_CONFIRMATION};
use assent_contracts::consent::{NoticeText, PurposeDefined};
use assent_contracts::policy::{Change, Notice, Purpose, Quiet};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::quiet;
use super::scope::ANY;

/// Ten years: whoever means longer means for ever.
const DAYS_MAX: u32 = 3_650;

/// A definition is no definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The stream of a purpose: an id derived from its name, so that the name is unique by nature.
#[must_use]
pub fn stream_id(purpose: &str) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_5d0a_7a0e_4b53_9f2b_61c0_35c7_2d11);
    Uuid::new_v5(&NAMESPACE, purpose.as_bytes())
}

/// The canonical form of a notice: its language, a line feed, the text; then
/// for each item that there is, in the order of their names, two line feeds, the name in square
/// brackets, a line feed and the item; everywhere with line ends made `\n` and outer white space
/// taken away. The language is part of it: the same words in another language setting are another
/// notice.
#[must_use]
pub fn canonical(locale: &str, notice: &Notice) -> String {
    let clean = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    let mut canonical = format!("{locale}\n{}", clean(&notice.text));
    for (name, item) in items(notice) {
        if let Some(item) = item {
            canonical.push_str(&format!("\n\n[{name}]\n{}", clean(item)));
        }
    }
    canonical
}

/// SHA-256 over the canonical form of a notice, hex.
#[must_use]
pub fn notice_hash(locale: &str, notice: &Notice) -> String {
    hex(&Sha256::digest(canonical(locale, notice).as_bytes()))
}

/// The items of a notice beside its text, in the order of their names.
#[must_use]
pub fn items(notice: &Notice) -> [(&'static str, Option<&str>); 10] {
    [
        ("categories", notice.categories.as_deref()),
        ("complaint", notice.complaint.as_deref()),
        ("profiling", notice.profiling.as_deref()),
        ("recipients", notice.recipients.as_deref()),
        ("retention", notice.retention.as_deref()),
        ("rights", notice.rights.as_deref()),
        ("source", notice.source.as_deref()),
        ("title", notice.title.as_deref()),
        ("transfers", notice.transfers.as_deref()),
        ("withdrawal", notice.withdrawal.as_deref()),
    ]
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The event that a purpose of the policy leads to, given the newest one there is; none when it says
/// nothing new. `language` is the default one.
///
/// # Errors
/// [`Invalid`] when a name can't stand in the ledger or a text is missing.
pub fn define(
    newest: Option<&PurposeDefined>,
    name: &str,
    wanted: &Purpose,
    language: &str,
) -> Result<Option<PurposeDefined>, Invalid> {
    check(name, wanted, language)?;
    let notices: BTreeMap<String, NoticeText> = wanted
        .notices
        .iter()
        .map(|(locale, notice)| {
            let hash = notice_hash(locale, notice);
            (locale.clone(), NoticeText { hash, notice: notice.clone() })
        })
        .collect();
    let Some(first) = notices.get(language) else {
        return Err(Invalid("there is no notice in the controller's first language"));
    };
    let mut channels = wanted.channels.clone();
    channels.sort_unstable();
    channels.dedup();
    let defined = PurposeDefined {
        purpose: name.to_owned(),
        channels,
        dpv: wanted.dpv.clone(),
        lawful_basis: wanted.lawful_basis.name().to_owned(),
        notice_version: newest.map_or(1, |newest| newest.notice_version + 1),
        notice_hash: first.hash.clone(),
        notice_text: first.notice.text.clone(),
        notice_locale: language.to_owned(),
        validity_days: wanted.validity_days,
        lapses_after_days: wanted.lapses_after_days,
        double_opt_in: wanted.double_opt_in,
        ask: wanted.ask.clone(),
        quiet: wanted.quiet.clone(),
        accepted: accepted(newest, &notices, wanted.change),
        notices,
        data: wanted.data.clone(),
        recipients: wanted.recipients.clone(),
    };
    let same = newest.is_some_and(|newest| {
        PurposeDefined {
            notice_version: newest.notice_version,
            accepted: newest.accepted.clone(),
            ..defined.clone()
        } == *newest
    });
    Ok((!same).then_some(defined))
}

/// The notices on which a consent holds: those of today, and the earlier ones unless they said
/// something else. None stands for every one, as in events from before notices were listed.
fn accepted(
    newest: Option<&PurposeDefined>,
    notices: &BTreeMap<String, NoticeText>,
    change: Change,
) -> Vec<String> {
    let today: BTreeSet<&String> = notices.values().map(|notice| &notice.hash).collect();
    let mut accepted = today.clone();
    if let Some(newest) = newest {
        let hashes = newest.notices.values().map(|notice| &notice.hash);
        let earlier: BTreeSet<&String> = hashes.chain([&newest.notice_hash]).collect();
        // What is new in no language is no change of the texts.
        if change == Change::Editorial || today.is_subset(&earlier) {
            if newest.accepted.is_empty() {
                return Vec::new();
            }
            accepted.extend(&newest.accepted);
        }
    }
    accepted.into_iter().cloned().collect()
}

fn hours(quiet: &Quiet) -> Result<(), Invalid> {
    if quiet.from == quiet.until {
        return Err(Invalid("quiet hours end at another time than they begin"));
    }
    if quiet::zone(&quiet.otherwise).is_none() {
        return Err(Invalid("quiet.otherwise is a time zone, such as Europe/Paris"));
    }
    if !quiet.holidays.keys().all(|code| quiet::is_place(code)) {
        return Err(Invalid(
            "holidays are listed by country (ISO 3166-1), such as GB, or * for all",
        ));
    }
    if (1..=7).all(|day| quiet.days.iter().any(|it| it.to_monday_one_offset() == day)) {
        return Err(Invalid("one day of the week at least is not quiet as a whole"));
    }
    Ok(())
}

fn check(purpose: &str, wanted: &Purpose, language: &str) -> Result<(), Invalid> {
    name(purpose)?;
    if [STOP_CONFIRMATION, CONSENT_REQUEST].contains(&purpose) {
        return Err(Invalid("the names stop_confirmation and consent_request are reserved"));
    }
    if wanted.channels.is_empty() {
        return Err(Invalid("a purpose needs at least one channel"));
    }
    wanted.channels.iter().try_for_each(|channel| name(channel))?;
    wanted.quiet.iter().try_for_each(hours)?;
    wanted.notices.keys().map(String::as_str).chain([language]).try_for_each(tag)?;
    for notice in wanted.notices.values() {
        let long = |text: &str| text.len() > 65_536;
        if notice.text.trim().is_empty() || long(&notice.text) {
            return Err(Invalid("the notice text must have 1 to 65536 bytes"));
        }
        if items(notice).iter().any(|(_, item)| item.is_some_and(long)) {
            return Err(Invalid("an item of a notice must have at most 65536 bytes"));
        }
    }
    if wanted.dpv.is_empty() || wanted.dpv.len() > 200 {
        return Err(Invalid("the DPV term must have 1 to 200 bytes"));
    }
    if wanted.ask.as_ref().is_some_and(|ask| ask.template.is_empty() || ask.template.len() > 512) {
        return Err(Invalid("the template of a question must have 1 to 512 bytes"));
    }
    if let Some(ask) = &wanted.ask {
        let ends = [wanted.validity_days, wanted.lapses_after_days].into_iter().flatten().min();
        if ask.before_days == 0 || ends.is_some_and(|days| ask.before_days >= days) {
            return Err(Invalid("before_days must be at least 1 and less than a consent holds"));
        }
        if !(1..=DAYS_MAX).contains(&ask.again_after_days) || ask.before_days > DAYS_MAX {
            return Err(Invalid("again_after_days and before_days must be 1 to 3650"));
        }
    }
    if wanted.validity_days == Some(0) || wanted.lapses_after_days == Some(0) {
        return Err(Invalid("a validity must be at least one day"));
    }
    Ok(())
}

/// Whether this may be a BCP 47 language tag.
///
/// # Errors
/// When it can't.
pub fn tag(locale: &str) -> Result<(), Invalid> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if locale.is_empty() || locale.len() > 35 || !locale.bytes().all(fits) {
        return Err(Invalid("a language must be a BCP 47 tag, such as fr or pt-BR"));
    }
    Ok(())
}

fn name(name: &str) -> Result<(), Invalid> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name == ANY || name.len() > 64 || !name.bytes().all(fits) {
        return Err(Invalid("a name has 1 to 64 characters of a-z, 0-9 and _"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::policy::defaults;
    use super::*;

    fn marketing() -> Purpose {
        defaults("Acme").purposes.remove("marketing").unwrap()
    }

    fn next(newest: Option<&PurposeDefined>, wanted: &Purpose) -> Option<PurposeDefined> {
        define(newest, "marketing", wanted, "en").unwrap()
    }

    fn saying(text: &str, change: Change) -> Purpose {
        let mut purpose = Purpose { change, ..marketing() };
        purpose.notices.get_mut("en").unwrap().text = text.to_owned();
        purpose
    }

    #[test]
    fn trap_7_a_notice_is_never_edited_in_place_another_text_is_another_version() {
        let first = next(None, &marketing()).unwrap();
        let second = next(Some(&first), &saying("Other words.", Change::Material)).unwrap();
        assert_eq!((first.notice_version, second.notice_version), (1, 2));
        assert_ne!(first.notice_hash, second.notice_hash);
    }

    #[test]
    fn trap_7_the_hash_of_the_wrong_locale_is_another_hash() {
        let notice = |text: &str| Notice { text: text.to_owned(), ..Notice::default() };
        assert_ne!(notice_hash("en", &notice("Hello")), notice_hash("fr", &notice("Hello")));
        assert_eq!(notice_hash("en", &notice("a\r\nb\n")), notice_hash("en", &notice("a\nb")));
        let with = Notice { rights: Some("b".to_owned()), ..notice("a") };
        assert_ne!(notice_hash("en", &with), notice_hash("en", &notice("a")));
    }

    #[test]
    fn a_material_change_asks_again_and_a_spelling_fix_does_not() {
        let first = next(None, &marketing()).unwrap();
        let spelled = next(Some(&first), &saying("Spelled.", Change::Editorial)).unwrap();
        assert!(spelled.accepted.contains(&first.notice_hash));
        assert!(spelled.accepted.contains(&spelled.notice_hash));
        let other = next(Some(&spelled), &saying("Something else.", Change::Material)).unwrap();
        assert_eq!(other.accepted, std::slice::from_ref(&other.notice_hash));
    }

    #[test]
    fn another_channel_or_a_notice_less_asks_nobody_again() {
        let mut wanted = marketing();
        wanted
            .notices
            .insert("fr".to_owned(), Notice { text: "Bonjour".to_owned(), ..Notice::default() });
        let first = next(None, &wanted).unwrap();
        let more = Purpose { channels: vec!["whatsapp".to_owned(), "email".to_owned()], ..wanted };
        let second = next(Some(&first), &more).unwrap();
        assert_eq!(second.accepted, first.accepted);
        let mut less = more;
        less.notices.remove("fr");
        let third = next(Some(&second), &less).unwrap();
        assert_eq!(third.accepted, first.accepted);
    }

    #[test]
    fn a_purpose_from_before_notices_were_listed_keeps_every_consent_until_a_material_change() {
        let old = PurposeDefined {
            notices: BTreeMap::new(),
            accepted: Vec::new(),
            data: Vec::new(),
            ..next(None, &marketing()).unwrap()
        };
        let adopted = next(Some(&old), &super::super::policy::adopted(&old)).unwrap();
        assert_eq!(adopted.notice_hash, old.notice_hash);
        assert!(adopted.accepted.is_empty());
        let changed = next(Some(&adopted), &saying("Other words.", Change::Material)).unwrap();
        assert_eq!(changed.accepted, std::slice::from_ref(&changed.notice_hash));
    }

    #[test]
    fn defining_the_same_again_says_nothing_new() {
        let first = next(None, &marketing()).unwrap();
        assert_eq!(next(Some(&first), &marketing()), None);
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for purpose in ["*", "", "Marketing", STOP_CONFIRMATION, CONSENT_REQUEST, "a b"] {
            assert!(define(None, purpose, &marketing(), "en").is_err(), "{purpose}");
        }
    }
}
