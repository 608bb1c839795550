//! Files that messages carry, within the provider's limits. It guarantees that a file is what it is said to
//! be, as far as its first bytes tell; whether the provider can play it is the provider's to say. It does no input
//! or output.

use super::content::{Content, Fault, Header, MediaSource, Values};

/// Of the first bytes of a file so many tell what it is.
pub const TELLING: usize = 16;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;

/// Which kind of message may carry a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sound.
    Audio,
    /// A document.
    Document,
    /// An image.
    Image,
    /// A sticker.
    Sticker,
    /// A video.
    Video,
}

impl Kind {
    /// As messages name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Image => "image",
            Self::Sticker => "sticker",
            Self::Video => "video",
        }
    }

    /// The most bytes of a file of this kind.
    #[must_use]
    pub const fn bytes_max(self) -> u64 {
        match self {
            Self::Audio | Self::Video => 16 * MB,
            Self::Document => 100 * MB,
            Self::Image => 5 * MB,
            Self::Sticker => 500 * KB,
        }
    }
}

/// How files of a type begin.
#[derive(Clone, Copy)]
enum Begins {
    /// With these bytes, from this one on.
    With(usize, &'static [u8]),
    /// With one of several.
    One(&'static [Begins]),
    /// As text: no byte is zero.
    Text,
}

impl Begins {
    fn fits(self, first: &[u8]) -> bool {
        match self {
            Self::With(at, bytes) => first.get(at..).is_some_and(|it| it.starts_with(bytes)),
            Self::One(all) => all.iter().any(|it| it.fits(first)),
            Self::Text => !first.contains(&0),
        }
    }
}

const ZIP: Begins = Begins::With(0, b"PK\x03\x04");
const OLE: Begins = Begins::With(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1");
const ISO_MEDIA: Begins = Begins::With(4, b"ftyp");
/// MPEG sound begins with a tag or with a frame: eleven bits that are set.
const MPEG: Begins = Begins::One(&[
    Begins::With(0, b"ID3"),
    Begins::With(0, b"\xff\xfb"),
    Begins::With(0, b"\xff\xfa"),
    Begins::With(0, b"\xff\xf3"),
    Begins::With(0, b"\xff\xf2"),
]);
const AAC: Begins = Begins::One(&[Begins::With(0, b"\xff\xf1"), Begins::With(0, b"\xff\xf9")]);

/// The types that the provider takes.
const TYPES: [(&str, Kind, Begins); 18] = [
    ("audio/aac", Kind::Audio, AAC),
    ("audio/amr", Kind::Audio, Begins::With(0, b"#!AMR")),
    ("audio/mpeg", Kind::Audio, MPEG),
    ("audio/mp4", Kind::Audio, ISO_MEDIA),
    ("audio/ogg", Kind::Audio, Begins::With(0, b"OggS")),
    ("image/jpeg", Kind::Image, Begins::With(0, b"\xff\xd8\xff")),
    ("image/png", Kind::Image, Begins::With(0, b"\x89PNG\r\n\x1a\n")),
    ("image/webp", Kind::Sticker, Begins::With(8, b"WEBP")),
    ("video/mp4", Kind::Video, ISO_MEDIA),
    ("video/3gpp", Kind::Video, ISO_MEDIA),
    ("text/plain", Kind::Document, Begins::Text),
    ("application/pdf", Kind::Document, Begins::With(0, b"%PDF-")),
    ("application/msword", Kind::Document, OLE),
    ("application/vnd.ms-excel", Kind::Document, OLE),
    ("application/vnd.ms-powerpoint", Kind::Document, OLE),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Kind::Document,
        ZIP,
    ),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", Kind::Document, ZIP),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        Kind::Document,
        ZIP,
    ),
];

/// The types that may stand as an example above a template.
const EXAMPLES: [&str; 4] = ["image/jpeg", "image/png", "video/mp4", "application/pdf"];

/// A type that the provider takes.
#[derive(Clone, Copy)]
pub struct MediaType {
    /// Its name.
    pub name: &'static str,
    /// Which kind of message carries it.
    pub kind: Kind,
    begins: Begins,
}

impl MediaType {
    /// The type of this name; what stands behind a `;` says nothing here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.split(';').next()?.trim();
        let (name, kind, begins) =
            *TYPES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
        Some(Self { name, kind, begins })
    }

    /// Whether it may stand above a template as an example.
    #[must_use]
    pub fn is_example(self) -> bool {
        EXAMPLES.contains(&self.name)
    }

    /// Whether a file of so many bytes may be uploaded.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check_size(self, bytes: u64) -> Result<(), Fault> {
        let (kind, most) = (self.kind.as_str(), self.kind.bytes_max());
        if (1..=most).contains(&bytes) {
            return Ok(());
        }
        Err(format!("a file of {kind} messages has 1 to {most} bytes"))
    }

    /// Whether a file that begins like this is of the type.
    ///
    /// # Errors
    /// That it isn't.
    pub fn check_begin(self, first: &[u8]) -> Result<(), Fault> {
        if self.begins.fits(first) {
            return Ok(());
        }
        Err(format!("the file doesn't begin as one of {} does", self.name))
    }
}

/// The files that a message with free-form content carries: where they come from, and as which kind.
#[must_use]
pub fn of_content(content: &Content) -> Option<(Kind, &MediaSource)> {
    Some(match content {
        Content::Image(it) => (Kind::Image, it),
        Content::Video(it) => (Kind::Video, it),
        Content::Audio(it) => (Kind::Audio, it),
        Content::Document(it) => (Kind::Document, it),
        Content::Sticker(it) => (Kind::Sticker, it),
        _ => return None,
    })
}

/// The files that a template's values carry.
pub fn of_values(values: &Values) -> impl Iterator<Item = (Kind, &MediaSource)> {
    let headers = values.header.iter().chain(values.cards.iter().map(|card| &card.header));
    headers.filter_map(|header| match header {
        Header::Image(it) => Some((Kind::Image, it)),
        Header::Video(it) => Some((Kind::Video, it)),
        Header::Document(it) => Some((Kind::Document, it)),
        Header::Text { .. } | Header::Location(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, first: &[u8]) -> Result<(), Fault> {
        MediaType::parse(name).unwrap().check_begin(first)
    }

    #[test]
    fn a_file_is_what_it_is_said_to_be_or_is_refused() {
        let files: [(&str, &[u8]); 8] = [
            ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF"),
            ("image/webp", b"RIFF\x10\0\0\0WEBPVP8 "),
            ("video/mp4", b"\0\0\0\x18ftypmp42"),
            ("audio/mpeg", b"ID3\x04\0\0\0"),
            ("audio/ogg; codecs=opus", b"OggS\0\x02"),
            ("application/pdf", b"%PDF-1.7\n"),
            ("application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ];
        for (name, first) in files {
            assert_eq!(check(name, first), Ok(()), "{name}");
            for (other, begin) in files.iter().filter(|(other, _)| *other != name) {
                assert!(check(name, begin).is_err(), "{other} as {name}");
            }
        }
        assert_eq!(check("text/plain", b"Bonjour"), Ok(()));
        assert!(check("text/plain", b"MZ\x90\0\x03").is_err());
        assert!(check("image/png", b"").is_err());
        for unknown in ["application/x-sh", "image/gif", "text/html", "", "image"] {
            assert!(MediaType::parse(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn each_kind_has_its_most_bytes() {
        for (name, most) in [
            ("image/png", 5 * MB),
            ("image/webp", 500 * KB),
            ("video/mp4", 16 * MB),
            ("audio/amr", 16 * MB),
            ("application/pdf", 100 * MB),
        ] {
            let file = MediaType::parse(name).unwrap();
            assert_eq!(file.check_size(most), Ok(()), "{name}");
            assert!(file.check_size(most + 1).is_err() && file.check_size(0).is_err(), "{name}");
        }
    }
}
