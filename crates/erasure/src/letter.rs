//! What a person is told when her request is refused, why and where she can complain (GDPR Article
//! 12(4)), and when it takes longer (12(3)). It guarantees a sentence for every ground and reason in every
//! language; sending it is left to whoever talks to her.

use assent_contracts::rights::{Authority, ExtensionReason, RefusalGround};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text in the languages that people are told things in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Letter {
    /// English.
    pub en: String,
    /// French.
    pub fr: String,
    /// Russian.
    pub ru: String,
}

/// The letter that refuses a request, without salutation.
#[must_use]
pub fn refusal(ground: RefusalGround, authorities: &[Authority]) -> Letter {
    let [en, fr, ru] = because(ground);
    // Where there are several authorities the address lists them: none of them has a name to be told.
    let whom = |one_of_them: &str| {
        let named = |it: &Authority| {
            format!("{} ({})", it.name.as_deref().unwrap_or(one_of_them), it.address)
        };
        match authorities {
            [] => one_of_them.to_owned(),
            some => some.iter().map(named).collect::<Vec<_>>().join(", "),
        }
    };
    Letter {
        en: format!(
            "We do not do what you asked: {en}. You may complain to {}, and you may go to court.",
            whom("the data protection authority of your country")
        ),
        fr: format!(
            "Nous ne donnons pas suite à votre demande : {fr}. Vous pouvez introduire une réclamation auprès de : {}, et former un recours juridictionnel.",
            whom("l'autorité de protection des données de votre pays")
        ),
        ru: format!(
            "Мы не выполняем вашу просьбу: {ru}. Вы можете подать жалобу: {}, и обратиться в суд.",
            whom("орган по защите персональных данных вашей страны")
        ),
    }
}

/// The letter that extends a term, without salutation; `last_day` is the new one.
#[must_use]
pub fn extension(reasons: &[ExtensionReason], last_day: Date) -> Letter {
    let because = |language: usize, and: &str| {
        let why = reasons.iter().map(|reason| reason_of(*reason)[language]);
        why.collect::<Vec<_>>().join(and)
    };
    let (year, month, day) = (last_day.year(), last_day.month(), last_day.day());
    Letter {
        en: format!(
            "We need more time for what you asked: {}. You will have our answer by {year}-{month:02}-{day:02}.",
            because(0, ", and ")
        ),
        fr: format!(
            "Il nous faut plus de temps pour répondre à votre demande : {}. Vous aurez notre réponse au plus tard le {day:02}/{month:02}/{year}.",
            because(1, ", et ")
        ),
        ru: format!(
            "Нам нужно больше времени на вашу просьбу: {}. Вы получите ответ не позднее {day:02}.{month:02}.{year}.",
            because(2, ", и ")
        ),
    }
}

/// The letter that says what was put right, without salutation; `others` is whether recipients were told too.
#[must_use]
pub fn rectification(fields: &[String], others: bool) -> Letter {
    let named = |language: usize| {
        let named = fields.iter().map(|field| field_of(field)[language]);
        named.collect::<Vec<_>>().join(", ")
    };
    let told = |text: &'static str| if others { text } else { "" };
    Letter {
        en: format!(
            "We have put right what we hold about you: {}.{}",
            named(0),
            told(" We have told those who have it from us.")
        ),
        fr: format!(
            "Nous avons rectifié ce que nous détenons à votre sujet : {}.{}",
            named(1),
            told(" Nous en avons informé ceux qui le tiennent de nous.")
        ),
        ru: format!(
            "Мы исправили данные о вас: {}.{}",
            named(2),
            told(" Мы сообщили об этом тем, кто получил их от нас.")
        ),
    }
}

/// The letter about a restriction, without salutation: that it stands, that it will end, that it is over.
#[must_use]
pub fn restriction(told: bool, released: bool) -> Letter {
    let [en, fr, ru] = match (told, released) {
        (_, true) => [
            "We use your data again, as we told you we would.",
            "Nous utilisons de nouveau vos données, comme nous vous l'avions annoncé.",
            "Мы снова используем ваши данные, как и предупреждали.",
        ],
        (true, false) => [
            "We will lift the restriction on the use of your data. You may object, and you may complain to the data protection authority.",
            "Nous allons lever la limitation de l'utilisation de vos données. Vous pouvez vous y opposer, et introduire une réclamation auprès de l'autorité de protection des données.",
            "Мы снимем ограничение на использование ваших данных. Вы можете возразить, а также подать жалобу в орган по защите персональных данных.",
        ],
        (false, false) => [
            "We keep your data and do not use them. We will tell you before this ends.",
            "Nous conservons vos données sans les utiliser. Nous vous préviendrons avant que cela ne prenne fin.",
            "Мы храним ваши данные и не используем их. Мы предупредим вас, прежде чем это закончится.",
        ],
    };
    Letter { en: en.to_owned(), fr: fr.to_owned(), ru: ru.to_owned() }
}

fn field_of(field: &str) -> [&'static str; 3] {
    match field {
        "phone" => ["your telephone number", "votre numéro de téléphone", "номер телефона"],
        "name" => ["your name", "votre nom", "имя"],
        "email" => ["your e-mail address", "votre adresse électronique", "адрес электронной почты"],
        _ => ["other data", "d'autres données", "другие данные"],
    }
}

const fn reason_of(reason: ExtensionReason) -> [&'static str; 3] {
    match reason {
        ExtensionReason::Complexity => ["it is complex", "elle est complexe", "она сложна"],
        ExtensionReason::NumberOfRequests => [
            "you have made several requests",
            "vous avez présenté plusieurs demandes",
            "вы подали несколько просьб",
        ],
    }
}

const fn because(ground: RefusalGround) -> [&'static str; 3] {
    match ground {
        RefusalGround::IdentityNotShown => [
            "it was not shown that it is you who asks",
            "il n'a pas été établi que la demande vient de vous",
            "не подтверждено, что обращаетесь именно вы",
        ],
        RefusalGround::ManifestlyUnfounded => [
            "it is manifestly unfounded",
            "elle est manifestement infondée",
            "она явно необоснованна",
        ],
        RefusalGround::Excessive => [
            "it is excessive, because you have asked the same a short time ago",
            "elle est excessive, car vous avez demandé la même chose il y a peu",
            "она чрезмерна: вы недавно просили о том же",
        ],
        RefusalGround::NothingHeld => [
            "we hold nothing about you",
            "nous ne détenons rien à votre sujet",
            "мы не храним данных о вас",
        ],
        RefusalGround::FreedomOfExpression => [
            "the data are needed for the freedom of expression and information",
            "les données sont nécessaires à la liberté d'expression et d'information",
            "данные нужны для свободы выражения мнений и информации",
        ],
        RefusalGround::LegalObligation => [
            "a law obliges us to keep the data",
            "une loi nous oblige à conserver les données",
            "закон обязывает нас хранить данные",
        ],
        RefusalGround::PublicHealth => [
            "the data are needed for public health",
            "les données sont nécessaires à la santé publique",
            "данные нужны для охраны общественного здоровья",
        ],
        RefusalGround::ArchivingOrResearch => [
            "the data are needed for archives or research in the public interest",
            "les données sont nécessaires à des archives ou à la recherche d'intérêt public",
            "данные нужны для архивов или исследований в общественных интересах",
        ],
        RefusalGround::LegalClaims => [
            "the data are needed for legal claims",
            "les données sont nécessaires à l'exercice ou à la défense de droits en justice",
            "данные нужны для судебных требований",
        ],
        RefusalGround::RightsOfOthers => [
            "it would touch the rights of others",
            "elle porterait atteinte aux droits d'autrui",
            "это затронуло бы права других людей",
        ],
        RefusalGround::AccurateAlready => [
            "the data are right as they are",
            "les données sont exactes telles qu'elles sont",
            "данные верны",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_where_to_complain_in_every_language() {
        let cnil = Authority {
            name: Some("CNIL".to_owned()),
            address: "https://www.cnil.fr/fr/plaintes".to_owned(),
        };
        let Letter { en, fr, ru } = refusal(RefusalGround::NothingHeld, &[cnil]);
        for text in [&en, &fr, &ru] {
            assert!(text.contains("CNIL (https://www.cnil.fr/fr/plaintes)"), "{text}");
        }
        assert!(en.contains("nothing about you") && en.contains("court"), "{en}");
        assert!(fr.contains("rien à votre sujet") && fr.contains("juridictionnel"), "{fr}");
        assert!(ru.contains("не храним") && ru.contains("суд"), "{ru}");
        let nobody = refusal(RefusalGround::Excessive, &[]);
        assert!(nobody.en.contains("authority of your country"), "{}", nobody.en);
    }

    #[test]
    fn an_authority_without_a_name_is_described_in_the_language_of_the_letter() {
        let one_of_many =
            Authority { name: None, address: "https://example.org/authorities".to_owned() };
        let letter = refusal(RefusalGround::Excessive, &[one_of_many]);
        let Letter { en, fr, ru } = letter;
        assert!(en.contains("authority of your country (https://example.org/authorities)"), "{en}");
        assert!(fr.contains("de votre pays (https://example.org/authorities)"), "{fr}");
        assert!(ru.contains("вашей страны (https://example.org/authorities)"), "{ru}");
    }

    #[test]
    fn a_rectification_says_what_is_right_now_in_every_language() {
        let fields = ["phone".to_owned(), "email".to_owned()];
        let Letter { en, fr, ru } = rectification(&fields, true);
        assert!(en.contains("your telephone number, your e-mail address") && en.contains("told"));
        assert!(fr.contains("téléphone, votre adresse") && fr.contains("informé"), "{fr}");
        assert!(ru.contains("телефона, адрес") && ru.contains("сообщили"), "{ru}");
        assert!(!rectification(&fields, false).en.contains("told"));
    }

    #[test]
    fn an_extension_says_why_and_until_when_in_every_language() {
        let reasons = [ExtensionReason::Complexity, ExtensionReason::NumberOfRequests];
        let Letter { en, fr, ru } = extension(&reasons, jiff::civil::date(2027, 2, 26));
        assert!(en.contains("complex, and you have made several") && en.contains("2027-02-26"));
        assert!(fr.contains("complexe, et vous avez") && fr.contains("26/02/2027"), "{fr}");
        assert!(ru.contains("сложна, и вы подали") && ru.contains("26.02.2027"), "{ru}");
    }
}
