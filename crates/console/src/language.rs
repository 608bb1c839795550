//! In which language somebody reads: as she chose, else as her browser says, else English.

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// French.
    Fr,
    /// Russian.
    Ru,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 3] = [Self::En, Self::Fr, Self::Ru];

    /// BCP 47.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Fr => "fr",
            Self::Ru => "ru",
        }
    }

    /// Its name in itself.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Fr => "Français",
            Self::Ru => "Русский",
        }
    }

    /// The language of a tag such as `fr-CA`.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next()?.trim();
        Self::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }

    /// The one that was chosen, else the first of an `Accept-Language` header that there is, by weight.
    #[must_use]
    pub fn choose(chosen: Option<&str>, accepted: Option<&str>) -> Self {
        if let Some(language) = chosen.and_then(Self::of_tag) {
            return language;
        }
        let weighed = accepted.unwrap_or_default().split(',').filter_map(|entry| {
            let (tag, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            Some((Self::of_tag(tag)?, weight.ok()?))
        });
        let mut best: Option<(Self, f32)> = None;
        for (language, weight) in weighed {
            if best.is_none_or(|(_, held)| weight > held) {
                best = Some((language, weight));
            }
        }
        best.filter(|(_, weight)| *weight > 0.0).map_or(Self::En, |(language, _)| language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_wins_then_the_browser_then_english() {
        for (chosen, accepted, expected) in [
            (Some("ru"), Some("fr"), Language::Ru),
            (None, Some("fr-CA,en;q=0.5"), Language::Fr),
            (None, Some("de, ru;q=0.4, en;q=0.3"), Language::Ru),
            (None, Some("en;q=0.3,ru;q=0.9"), Language::Ru),
            (Some("de"), Some("fr"), Language::Fr),
            (None, Some("ru;q=0"), Language::En),
            (None, Some(";;q=x,,"), Language::En),
            (None, None, Language::En),
        ] {
            assert_eq!(Language::choose(chosen, accepted), expected, "{chosen:?} {accepted:?}");
        }
    }
}
