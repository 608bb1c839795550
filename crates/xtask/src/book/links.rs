//! The links of a page, and where each leads.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The destinations of a page's links and pictures, as they are written.
pub fn of(text: &str) -> Vec<String> {
    let destination = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.to_string())
        }
        _ => None,
    };
    Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(destination).collect()
}

/// The file that a link of a page leads to, both as paths from `root`; none for another site.
///
/// # Errors
/// What isn't there, in a sentence.
pub fn resolve(root: &Path, page: &Path, link: &str) -> Result<Option<PathBuf>, String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, it)| (path, Some(it)));
    let file = match path {
        "" => page.to_path_buf(),
        path => normal(&page.parent().unwrap_or(Path::new("")).join(path)),
    };
    if file.starts_with("..") || !root.join(&file).exists() {
        return Err(format!("there is no {path}"));
    }
    if let Some(heading) = heading {
        let text = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        if !headings(&text).iter().any(|known| known == heading) {
            return Err(format!("{path} has no heading #{heading}"));
        }
    }
    Ok(Some(file))
}

/// A path without `.` and, as far as it goes, without `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut made = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if made.file_name().is_some() => {
                made.pop();
            }
            part => made.push(part),
        }
    }
    made
}

/// The anchors of a page's headings, as Git's hosts and mdBook make them: lower case, a hyphen for each space,
/// nothing of other signs; the second of a name ends in `-1`.
fn headings(text: &str) -> Vec<String> {
    let (mut anchors, mut current) = (Vec::new(), None);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => current = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut current {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&current.take().unwrap_or_default());
                let before = seen.entry(anchor.clone()).or_default();
                anchors.push(match *before {
                    0 => anchor,
                    before => format!("{anchor}-{before}"),
                });
                *before += 1;
            }
            _ => {}
        }
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let sign = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    heading.trim().to_lowercase().chars().filter_map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_what_readers_are_led_to() {
        let page = "# `[auth]`\n## Who somebody is?\n### Keys of *before*\n## Who somebody is\n";
        let anchors = ["auth", "who-somebody-is", "keys-of-before", "who-somebody-is-1"];
        assert_eq!(headings(page), anchors);
    }

    #[test]
    fn a_link_in_code_is_none_and_one_in_a_table_is() {
        let page = "`[a](a.md)`\n\n```\n[b](b.md)\n```\n\n| x |\n|---|\n| [c](c.md) |\n\n[d]\n\n[d]: d.md\n";
        assert_eq!(of(page), ["c.md", "d.md"]);
    }
}
