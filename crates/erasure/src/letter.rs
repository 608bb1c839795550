//! What a person is told when her request is refused: why, and where she can complain (GDPR Article
//! 12(4)). It guarantees a sentence for every ground in every language; sending it is left to whoever
//! talks to her.

use assent_contracts::rights::{Authority, RefusalGround};
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
    let names: Vec<String> =
        authorities.iter().map(|it| format!("{} ({})", it.name, it.address)).collect();
    let whom = |otherwise: &str| match &names[..] {
        [] => otherwise.to_owned(),
        names => names.join(", "),
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
            name: "CNIL".to_owned(),
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
}
