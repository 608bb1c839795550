//! Whether an output is the page's. Ids, long random texts, moments and ports may differ, but what is one id on the
//! page is one id here, and two are two; a later command gets those of here. `…` stands for anything: within a line
//! for the rest of something, on a line of its own for any lines.

use std::collections::BTreeMap;

/// Shorter ones are words: of a signature, a token or a hash the page can't know more than that it is one.
const OPAQUE_MIN: usize = 32;

/// What the page's ids are here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    here: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A UUID.
    Id,
    /// A hash, a token, a signature.
    Opaque,
    /// An instant, RFC 3339 in UTC.
    Moment,
    /// A port of this machine.
    Port,
}

#[derive(Debug)]
enum Piece<'a> {
    Text(&'a str),
    Varying(Kind, &'a str),
    Anything,
    AnyLines,
}

impl Seen {
    /// A command of the page, with the ids of here.
    pub fn as_here(&self, command: &str) -> String {
        let mut typed = String::new();
        for piece in pieces(command) {
            typed.push_str(match piece {
                Piece::Varying(_, text) => self.here.get(text).map_or(text, String::as_str),
                Piece::Text(text) => text,
                Piece::Anything => "…",
                Piece::AnyLines => "…\n",
            });
        }
        typed
    }

    /// Whether what was printed is what the page says; then its ids are known.
    pub fn holds(&mut self, page: &str, printed: &str) -> bool {
        let mut lines = String::new();
        for line in printed.trim_end().lines() {
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        let found = self.matched(&pieces(page), &lines);
        let holds = found.is_some();
        if let Some(found) = found {
            *self = found;
        }
        holds
    }

    fn matched(&self, page: &[Piece], printed: &str) -> Option<Seen> {
        let Some((piece, rest)) = page.split_first() else {
            return printed.is_empty().then(|| self.clone());
        };
        match piece {
            Piece::Text(text) => self.matched(rest, printed.strip_prefix(text)?),
            Piece::Varying(kind, text) => {
                let length = kind.length(printed)?;
                let (value, after) = printed.split_at(length);
                self.with(*kind, text, value)?.matched(rest, after)
            }
            Piece::Anything => {
                let line = printed.find('\n').unwrap_or(printed.len());
                let mut ends = (0..=line).filter(|end| printed.is_char_boundary(*end));
                ends.find_map(|end| self.matched(rest, &printed[end..]))
            }
            Piece::AnyLines => {
                let ends = printed.match_indices('\n').map(|(end, _)| end + 1);
                std::iter::once(0).chain(ends).find_map(|end| self.matched(rest, &printed[end..]))
            }
        }
    }

    fn with(&self, kind: Kind, page: &str, here: &str) -> Option<Seen> {
        if kind == Kind::Moment {
            return Some(self.clone());
        }
        if let Some(known) = self.here.get(page) {
            return (known == here).then(|| self.clone());
        }
        if kind == Kind::Id && self.here.values().any(|known| known == here) {
            return None;
        }
        let mut seen = self.clone();
        seen.here.insert(page.to_owned(), here.to_owned());
        Some(seen)
    }
}

impl Kind {
    /// How much of the text's beginning is one of this kind.
    fn length(self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        let run = |is: fn(&u8) -> bool| bytes.iter().take_while(|byte| is(byte)).count();
        let word = run(|byte| byte.is_ascii_alphanumeric() || b"_-=".contains(byte));
        match self {
            Kind::Id => (word == 36 && is_id(&bytes[..36])).then_some(36),
            Kind::Opaque => (word >= OPAQUE_MIN
                && !is_id(&bytes[..word])
                && bytes[..word].iter().any(u8::is_ascii_digit))
            .then_some(word),
            Kind::Moment => {
                let run = run(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(byte));
                let is = run >= 20
                    && bytes[run - 1] == b'Z'
                    && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
                        .iter()
                        .all(|(at, byte)| bytes[*at] == *byte);
                is.then_some(run)
            }
            Kind::Port => Some(run(u8::is_ascii_digit)).filter(|digits| *digits > 0),
        }
    }
}

fn is_id(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn pieces(page: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while at < page.len() {
        let rest = &page[at..];
        let before = page[..at].chars().next_back();
        let found = if rest.starts_with("…\n") && before.is_none_or(|it| it == '\n') {
            Some((Piece::AnyLines, "…\n".len()))
        } else if rest.starts_with('…') {
            Some((Piece::Anything, '…'.len_utf8()))
        } else if before.is_some_and(|it| it.is_ascii_alphanumeric() || "_-=".contains(it)) {
            None
        } else {
            let port = page[..at].ends_with("127.0.0.1:").then_some(Kind::Port);
            let kinds = [Kind::Id, Kind::Moment, Kind::Opaque];
            port.into_iter().chain(kinds).find_map(|kind| {
                let length = kind.length(rest)?;
                Some((Piece::Varying(kind, &rest[..length]), length))
            })
        };
        match found {
            Some((piece, length)) => {
                if begin < at {
                    pieces.push(Piece::Text(&page[begin..at]));
                }
                pieces.push(piece);
                at += length;
                begin = at;
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if begin < at {
        pieces.push(Piece::Text(&page[begin..]));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "01a2104b-cd8e-7db6-bb3e-515a1791a278";
    const HERE: &str = "01b3204b-cd8e-7db6-bb3e-515a1791a278";
    const OTHER: &str = "01b3204b-cd8e-7db6-bb3e-000000000000";

    fn holds(page: &str, printed: &str) -> bool {
        Seen::default().holds(page, printed)
    }

    #[test]
    fn what_a_page_says_is_what_is_printed() {
        assert!(holds("refused: no_consent\n", "refused: no_consent"));
        assert!(!holds("refused: no_consent\n", "refused: stopped\n"));
        assert!(!holds("refused: no_consent\n", "refused: no_consent\nand more\n"));
        assert!(!holds("one\ntwo\n", "one\n"));
        assert!(holds("", ""));
        assert!(!holds("", "something\n"));
    }

    #[test]
    fn ids_moments_ports_and_tokens_may_differ_but_each_is_one() {
        let time = ["as of 2026-11-25T01:22:12.865644Z\n", "as of 2027-01-01T00:00:00Z\n"];
        assert!(holds(time[0], time[1]));
        assert!(!holds(time[0], "as of today\n"));
        let (token, other) = ("AcrEWvopiRIkgGKiQlzeiEjJqs_dU0fKQZoUsA9O", "x".repeat(40) + "7");
        assert!(holds(
            &format!("http://127.0.0.1:7106/p/{token}\n"),
            &format!("http://127.0.0.1:40001/p/{other}\n")
        ));
        assert!(!holds(&format!("/p/{token}\n"), "/p/short\n"));
        assert!(holds(&format!("{PAGE} {PAGE}\n"), &format!("{HERE} {HERE}\n")));
        assert!(
            !holds(&format!("{PAGE} {PAGE}\n"), &format!("{HERE} {OTHER}\n")),
            "one on the page"
        );
        assert!(
            !holds(&format!("{PAGE} {OTHER}\n"), &format!("{HERE} {HERE}\n")),
            "two on the page"
        );
        assert!(!holds(&format!("{PAGE}\n"), "none\n"));
    }

    #[test]
    fn a_later_command_gets_the_ids_of_here() {
        let mut seen = Seen::default();
        assert!(seen.holds(&format!("message {PAGE}\n"), &format!("message {HERE}\n")));
        assert_eq!(seen.as_here(&format!("get '/m/{PAGE}?x'")), format!("get '/m/{HERE}?x'"));
        assert!(!seen.holds(&format!("again {PAGE}\n"), &format!("again {OTHER}\n")));
    }

    #[test]
    fn an_ellipsis_is_anything_and_no_more() {
        assert!(holds("status … end\n", "status read, or sent end\n"));
        assert!(!holds("status … end\n", "status\nread end\n"));
        assert!(holds("…\nlast\n", "first\nsecond\nlast\n"));
        assert!(holds("a\n…\n", "a\n"));
        assert!(!holds("…\nlast\n", "first\nlast\nmore\n"));
        assert!(holds("…\n", "whatever\n"));
    }
}
