//! The page of a screening: totals, a chart, what each reason means and what to do. It holds
//! counts and codes and no row of the file.

use askama::Template;
use jiff::Timestamp;

use super::Summary;
use super::words::{self, Lang, Reason, Words};

/// Width of the longest bar, in the units of the chart.
const CHART_WIDTH: u64 = 400;

#[derive(Template)]
#[template(path = "screening.html")]
struct Page<'a> {
    lang: &'static str,
    words: &'static Words,
    summary: &'a Summary,
    at: String,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    code: &'a str,
    count: u64,
    /// Of all rows, in percent with one decimal.
    share: String,
    bar: u64,
    /// Place of the bar in the chart.
    top: usize,
    allows: bool,
    reason: Reason,
}

/// The page, in this language.
pub fn page(summary: &Summary, lang: Lang, at: Timestamp) -> String {
    let most = summary.reasons.values().copied().max().unwrap_or(1).max(1);
    let mut counted: Vec<_> = summary.reasons.iter().collect();
    counted.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), *code));
    let lines = counted.into_iter().enumerate().map(|(index, (code, &count))| Line {
        code,
        count,
        share: format!("{:.1}", 100.0 * count as f64 / summary.rows.max(1) as f64),
        bar: (count * CHART_WIDTH / most).max(1),
        top: index * 28,
        allows: code == "consent_given",
        reason: words::reason(code, lang),
    });
    let page = Page {
        lang: lang.tag(),
        words: lang.words(),
        summary,
        at: at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        lines: lines.collect(),
    };
    page.render().expect("every part of the page can be written")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::ValueEnum as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_page_says_the_counts_in_every_language() {
        let reasons = [("no_consent", 88), ("consent_given", 12), ("json_invalid", 1)];
        let summary = Summary {
            screening_id: Uuid::nil(),
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            rows: 101,
            allowed: 12,
            denied: 89,
            reasons: BTreeMap::from(reasons.map(|(code, count)| (code.to_owned(), count))),
            complete: true,
        };
        for lang in Lang::value_variants() {
            let page = page(&summary, *lang, Timestamp::UNIX_EPOCH);
            assert!(page.starts_with("<!doctype html>"), "{page}");
            assert!(page.contains(&format!("<html lang=\"{}\">", lang.tag())));
            for (code, _) in reasons {
                assert!(page.contains(words::reason(code, *lang).meaning), "{code}");
            }
            assert!(page.contains("87.1"), "the share of 88 in 101");
            assert!(!page.contains("<script") && !page.contains("http:"), "nothing is loaded");
        }
    }
}
