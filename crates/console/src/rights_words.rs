//! The words of the page on which a person asks for her rights, in English, French and Russian. It guarantees a
//! meaning for every kind of request in each language; what the law says of each is the rule files'.

use crate::language::Language;

/// How many kinds of requests there are.
const KINDS: usize = assent_contracts::rights::RequestKind::ALL.len();

/// What the page says in one language.
#[derive(Debug)]
pub struct RightsWords {
    /// Its title.
    pub title: &'static str,
    /// On the page of whoever has the link: where this is found.
    pub there: &'static str,
    /// What it is for.
    pub intro: &'static str,
    /// What each kind means, in the order of the kinds.
    pub meanings: [&'static str; KINDS],
    /// Before the last moment of the answer.
    pub due: &'static str,
    /// Label of where she lives.
    pub place: &'static str,
    /// What she confirms before an erasure.
    pub sure: &'static str,
    /// On the button, before the kind.
    pub ask: &'static str,
    /// Title of what she has asked for.
    pub asked: &'static str,
    /// Title after she has asked.
    pub taken: &'static str,
    /// What to do with the reference and the secret.
    pub keep: &'static str,
    /// Label of the address at which she looks.
    pub look_at: &'static str,
    /// The secret can't be said again.
    pub told_before: &'static str,
    /// After an erasure was asked for.
    pub erasing: &'static str,
    /// She did not confirm it.
    pub unsure: &'static str,
    /// She asked for the same, with another place.
    pub again: &'static str,
    /// What she typed is no place.
    pub no_place: &'static str,
}

/// The words of a language.
#[must_use]
pub const fn rights_words(language: Language) -> &'static RightsWords {
    match language {
        Language::En => &EN,
        Language::Fr => &FR,
        Language::Ru => &RU,
    }
}

static EN: RightsWords = RightsWords {
    title: "Your rights",
    there: "There you can also ask to see your data, to take them along, to have them corrected or erased, and more.",
    intro: "These data are yours. You can ask for each of these here, free of charge. You have shown that it is you, so nothing else is needed.",
    meanings: [
        "Everything that we hold about you is erased, everywhere, and all messages stop at once. This can’t be undone. What a law obliges us to keep is named on the certificate that you get.",
        "You get everything that we hold about you, to read, with where it came from and what it is used for.",
        "You get what you gave us yourself, in a form that another company can read.",
        "Something that we hold about you is wrong. Ask here, and write to us by WhatsApp what is right: we correct it everywhere.",
        "We keep your data and use them for nothing, for example while you dispute that they are right. All messages stop.",
        "We use your data no more for advertising, and all messages stop at once.",
        "Your data are neither sold nor shared for advertising, and all messages stop at once.",
    ],
    due: "If you ask now, you are answered before",
    place: "Where you live, as a code such as FR or US-CA. You may leave this empty.",
    sure: "I know that this can’t be undone.",
    ask: "Ask",
    asked: "What you have asked for",
    taken: "Your request is taken in",
    keep: "Write down this reference and this secret now: the secret is not shown to you again, and nobody can find it for you. With both you see where your request stands, and take what it is answered with.",
    look_at: "Where to look",
    told_before: "You were given it before.",
    erasing: "Your data are being erased. From now on nothing is sent to you, not even about this: look with your reference and your secret. The certificate will be there too.",
    unsure: "Nothing was asked for: an erasure can’t be undone, so tick that you know it.",
    again: "You have asked for this a moment ago. What you were given then is good.",
    no_place: "Nothing was asked for: this is no code of a place. Write one such as FR or US-CA, or leave it empty.",
};

static FR: RightsWords = RightsWords {
    title: "Vos droits",
    there: "Vous pouvez aussi y demander à voir vos données, à les emporter, à les faire rectifier ou effacer, et plus encore.",
    intro: "Ces données sont les vôtres. Vous pouvez demander ici chacune de ces choses, gratuitement. Vous avez montré que c’est bien vous : rien d’autre n’est nécessaire.",
    meanings: [
        "Tout ce que nous détenons sur vous est effacé, partout, et tous les messages s’arrêtent aussitôt. C’est irréversible. Ce qu’une loi nous oblige à garder est nommé sur le certificat que vous recevez.",
        "Vous recevez tout ce que nous détenons sur vous, à lire, avec sa provenance et son usage.",
        "Vous recevez ce que vous nous avez donné vous-même, sous une forme qu’une autre entreprise peut lire.",
        "Quelque chose que nous détenons sur vous est faux. Demandez-le ici, et écrivez-nous par WhatsApp ce qui est juste : nous le corrigeons partout.",
        "Nous gardons vos données sans nous en servir, par exemple pendant que vous en contestez l’exactitude. Tous les messages s’arrêtent.",
        "Nous n’utilisons plus vos données pour la publicité, et tous les messages s’arrêtent aussitôt.",
        "Vos données ne sont ni vendues ni partagées pour la publicité, et tous les messages s’arrêtent aussitôt.",
    ],
    due: "Si vous le demandez maintenant, vous avez une réponse avant le",
    place: "Où vous habitez, par un code tel que FR ou US-CA. Vous pouvez laisser ce champ vide.",
    sure: "Je sais que c’est irréversible.",
    ask: "Demander",
    asked: "Ce que vous avez demandé",
    taken: "Votre demande est enregistrée",
    keep: "Notez maintenant cette référence et ce secret : le secret ne vous sera plus montré, et personne ne peut le retrouver pour vous. Avec les deux vous voyez où en est votre demande, et vous emportez la réponse.",
    look_at: "Où regarder",
    told_before: "Il vous a déjà été remis.",
    erasing: "Vos données sont en cours d’effacement. Désormais plus rien ne vous est envoyé, pas même à ce sujet : regardez avec votre référence et votre secret. Le certificat y sera aussi.",
    unsure: "Rien n’a été demandé : un effacement est irréversible, cochez donc que vous le savez.",
    again: "Vous venez de le demander. Ce qui vous a été remis alors est valable.",
    no_place: "Rien n’a été demandé : ce n’est pas le code d’un lieu. Écrivez-en un tel que FR ou US-CA, ou laissez le champ vide.",
};

static RU: RightsWords = RightsWords {
    title: "Ваши права",
    there: "Там же можно попросить показать ваши данные, забрать их, исправить или удалить, и не только это.",
    intro: "Эти данные — ваши. Каждое из этого можно попросить здесь, бесплатно. То, что это вы, уже показано: больше ничего не нужно.",
    meanings: [
        "Всё, что мы о вас храним, удаляется повсюду, и все сообщения сразу прекращаются. Вернуть это нельзя. То, что мы обязаны хранить по закону, названо в свидетельстве, которое вы получите.",
        "Вы получаете всё, что мы о вас храним, чтобы прочитать: откуда это и для чего используется.",
        "Вы получаете то, что дали нам сами, в виде, который прочтёт другая компания.",
        "Что-то из того, что мы о вас храним, неверно. Попросите здесь и напишите нам в WhatsApp, как правильно: мы исправим это повсюду.",
        "Мы храним ваши данные и ни для чего их не используем, например пока вы оспариваете их верность. Все сообщения прекращаются.",
        "Мы больше не используем ваши данные для рекламы, и все сообщения сразу прекращаются.",
        "Ваши данные не продают и не передают для рекламы, и все сообщения сразу прекращаются.",
    ],
    due: "Если попросить сейчас, ответ будет до",
    place: "Где вы живёте, кодом, например FR или US-CA. Можно не заполнять.",
    sure: "Я знаю, что вернуть это нельзя.",
    ask: "Попросить",
    asked: "О чём вы просили",
    taken: "Ваша просьба принята",
    keep: "Запишите сейчас этот номер и этот секрет: больше секрет не покажут, и никто не сможет его для вас найти. С ними видно, что стало с вашей просьбой, и можно забрать ответ.",
    look_at: "Где смотреть",
    told_before: "Вы его уже получили.",
    erasing: "Ваши данные удаляются. С этого момента вам ничего не отправляют, даже об этом: смотрите по номеру и секрету. Свидетельство будет там же.",
    unsure: "Ничего не запрошено: удаление нельзя отменить, поэтому отметьте, что вы это знаете.",
    again: "Вы только что об этом просили. То, что вы тогда получили, действует.",
    no_place: "Ничего не запрошено: это не код места. Напишите, например, FR или US-CA, или оставьте пустым.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_says_what_each_right_means_in_its_own_words() {
        for language in Language::ALL {
            let own = rights_words(language);
            let mut meanings = own.meanings.to_vec();
            meanings.sort_unstable();
            meanings.dedup();
            assert_eq!(meanings.len(), KINDS, "{language:?}");
            let others = Language::ALL.into_iter().filter(|it| *it != language);
            for other in others.map(rights_words) {
                assert!(own.meanings.iter().all(|it| !other.meanings.contains(it)), "{language:?}");
                assert_ne!(own.keep, other.keep);
            }
        }
    }
}
