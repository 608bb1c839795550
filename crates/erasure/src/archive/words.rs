//! The words of the page, in English, French and Russian. A kind or a field that a newer service tells of is called
//! by its code.

/// What the page says in one language.
pub struct Words {
    pub tag: &'static str,
    pub access_title: &'static str,
    pub portability_title: &'static str,
    pub reference: &'static str,
    pub prepared: &'static str,
    pub machine: &'static str,
    pub when: &'static str,
    pub recipients: &'static str,
    pub recipients_why: &'static str,
    pub told_included: &'static str,
    pub told_nothing: &'static str,
    pub told_missing: &'static str,
    pub rights: &'static str,
    pub struck: &'static str,
    pub your_rights: &'static str,
    pub complain: &'static str,
    pub yes: &'static str,
    pub no: &'static str,
    /// The place of this language in [`KINDS`] and [`FIELDS`].
    column: usize,
}

impl Words {
    /// What a kind of holding is called.
    pub fn kind(&self, kind: &str) -> String {
        self.of(KINDS, kind)
    }

    /// What a field is called.
    pub fn field(&self, field: &str) -> String {
        self.of(FIELDS, field)
    }

    fn of(&self, names: &[(&str, [&'static str; 3])], code: &str) -> String {
        let known = names.iter().find(|(known, _)| *known == code);
        known.map_or_else(|| code.replace('_', " "), |(_, names)| names[self.column].to_owned())
    }
}

/// Each language.
pub static ALL: [&Words; 3] = [&EN, &FR, &RU];

static EN: Words = Words {
    tag: "en",
    access_title: "What we hold about you",
    portability_title: "The data that you gave us",
    reference: "Your request",
    prepared: "Put together on",
    machine: "The same for machines is in data.json, your contact data are in contact.vcf. Signed receipts are in data.json alone.",
    when: "When",
    recipients: "Who else gets data about you",
    recipients_why: "These get data about you from us, or may have got some. We have asked what they hold where you asked to see it.",
    told_included: "what they hold is in this archive",
    told_nothing: "they hold nothing about you",
    told_missing: "what they hold is not in this archive; ask us or them",
    rights: "Your rights",
    struck: "Telephone numbers and e-mail addresses of other people are struck out (▇▇▇), and colleagues are not named.",
    your_rights: "You may have these data corrected or erased, restrict what is done with them, object to it, and withdraw any consent at any time.",
    complain: "You may complain to:",
    yes: "yes",
    no: "no",
    column: 0,
};

static FR: Words = Words {
    tag: "fr",
    access_title: "Ce que nous détenons sur vous",
    portability_title: "Les données que vous nous avez fournies",
    reference: "Votre demande",
    prepared: "Établi le",
    machine: "Le même contenu, lisible par machine, se trouve dans data.json, vos coordonnées dans contact.vcf. Les récépissés signés ne sont que dans data.json.",
    when: "Quand",
    recipients: "Qui d’autre reçoit des données sur vous",
    recipients_why: "Ces destinataires reçoivent de nous des données sur vous, ou ont pu en recevoir. Nous leur avons demandé ce qu’ils détiennent si vous avez demandé à le voir.",
    told_included: "ce qu’ils détiennent est dans cette archive",
    told_nothing: "ils ne détiennent rien sur vous",
    told_missing: "ce qu’ils détiennent n’est pas dans cette archive ; demandez-le à nous ou à eux",
    rights: "Vos droits",
    struck: "Les numéros de téléphone et adresses électroniques d’autres personnes sont masqués (▇▇▇), et nos collègues ne sont pas nommés.",
    your_rights: "Vous pouvez faire rectifier ou effacer ces données, en limiter le traitement, vous y opposer et retirer tout consentement à tout moment.",
    complain: "Vous pouvez introduire une réclamation auprès de :",
    yes: "oui",
    no: "non",
    column: 1,
};

static RU: Words = Words {
    tag: "ru",
    access_title: "Что мы о вас храним",
    portability_title: "Данные, которые вы нам предоставили",
    reference: "Ваша просьба",
    prepared: "Составлено",
    machine: "То же для программ — в файле data.json, ваши контактные данные — в contact.vcf. Подписанные квитанции есть только в data.json.",
    when: "Когда",
    recipients: "Кто ещё получает данные о вас",
    recipients_why: "Они получают данные о вас от нас или могли их получить. Если вы просили их показать, мы спросили, что они хранят.",
    told_included: "то, что они хранят, есть в этом архиве",
    told_nothing: "они не хранят данных о вас",
    told_missing: "того, что они хранят, в этом архиве нет; спросите нас или их",
    rights: "Ваши права",
    struck: "Телефоны и адреса электронной почты других людей скрыты (▇▇▇), наши сотрудники не названы.",
    your_rights: "Вы можете потребовать исправить или удалить эти данные, ограничить их обработку, возразить против неё и в любой момент отозвать любое согласие.",
    complain: "Вы можете подать жалобу:",
    yes: "да",
    no: "нет",
    column: 2,
};

/// Kinds of holdings.
const KINDS: &[(&str, [&str; 3])] = &[
    ("contact", ["Contact data", "Coordonnées", "Контактные данные"]),
    (
        "access",
        ["Who looked at them, for what", "Qui les a consultées, pour quoi", "Кто их читал и зачем"],
    ),
    (
        "consent",
        [
            "What you said, and what you were shown",
            "Ce que vous avez dit, et ce qui vous a été montré",
            "Что вы сказали и что вам показали",
        ],
    ),
    (
        "contacted",
        [
            "When you turned to us",
            "Quand vous vous êtes adressé à nous",
            "Когда вы к нам обращались",
        ],
    ),
    (
        "asked",
        [
            "When we asked for your consent",
            "Quand nous avons demandé votre accord",
            "Когда мы спрашивали вашего согласия",
        ],
    ),
    (
        "standing",
        [
            "What stands against your addresses",
            "Ce qui s’oppose à vos adresses",
            "Запреты на ваши адреса",
        ],
    ),
    ("receipt", ["Receipts", "Récépissés", "Квитанции"]),
    (
        "claim",
        [
            "Consents that a list claims",
            "Accords qu’une liste affirme",
            "Согласия, о которых говорит список",
        ],
    ),
    ("link", ["Links to your settings", "Liens vers vos choix", "Ссылки на ваши настройки"]),
    (
        "verdict",
        [
            "Whether a message was allowed",
            "Si un message était permis",
            "Было ли сообщение разрешено",
        ],
    ),
    ("message", ["Messages", "Messages", "Сообщения"]),
    ("note", ["Notes about you", "Notes à votre sujet", "Заметки о вас"]),
    ("conversation", ["Conversations", "Conversations", "Переписка"]),
    (
        "stop",
        [
            "What you said of messages",
            "Ce que vous avez dit des messages",
            "Что вы сказали о сообщениях",
        ],
    ),
    ("campaign", ["Campaigns", "Campagnes", "Рассылки"]),
    (
        "file",
        [
            "Files that we keep for you at WhatsApp",
            "Fichiers gardés chez WhatsApp",
            "Файлы, хранящиеся у WhatsApp",
        ],
    ),
    (
        "bar",
        [
            "What keeps messages from you for a time",
            "Ce qui suspend les messages",
            "Временные запреты сообщений",
        ],
    ),
    (
        "doubt",
        [
            "Doubts: who you are, what you meant",
            "Doutes : qui vous êtes, ce que vous avez voulu dire",
            "Сомнения: кто вы, что вы имели в виду",
        ],
    ),
    ("read_model", ["Copies for queries", "Copies pour la consultation", "Копии для запросов"]),
    ("request", ["Your requests", "Vos demandes", "Ваши просьбы"]),
    (
        "hold",
        [
            "Legal holds on your data",
            "Conservations pour motif légal",
            "Юридические запреты на удаление",
        ],
    ),
];

/// Fields of holdings.
const FIELDS: &[(&str, [&str; 3])] = &[
    ("phone", ["Telephone", "Téléphone", "Телефон"]),
    ("user_id", ["WhatsApp user id", "Identifiant WhatsApp", "Идентификатор WhatsApp"]),
    (
        "parent_user_id",
        ["WhatsApp shared id", "Identifiant WhatsApp partagé", "Общий идентификатор WhatsApp"],
    ),
    ("name", ["Name", "Nom", "Имя"]),
    ("email", ["E-mail", "Courriel", "Эл. почта"]),
    ("country", ["Country of the number", "Pays du numéro", "Страна номера"]),
    ("origin", ["Where we have it from", "Origine", "Откуда данные"]),
    ("reason", ["Reason", "Motif", "Причина"]),
    ("reasons", ["Reasons", "Motifs", "Причины"]),
    ("field", ["What", "Quoi", "Что"]),
    ("event", ["Event", "Événement", "Событие"]),
    ("purpose", ["Purpose", "Finalité", "Цель"]),
    ("channel", ["Channel", "Canal", "Канал"]),
    ("text", ["Text", "Texte", "Текст"]),
    ("from", ["From", "De", "От кого"]),
    ("type", ["Kind", "Type", "Вид"]),
    ("kind", ["Kind", "Type", "Вид"]),
    ("state", ["State", "État", "Состояние"]),
    ("status", ["Status", "Statut", "Статус"]),
    ("evidence", ["Evidence", "Preuve", "Доказательство"]),
    ("notice_text", ["What you agreed to", "Ce que vous avez accepté", "На что вы согласились"]),
    ("template", ["Template", "Modèle", "Шаблон"]),
    ("allowed", ["Allowed", "Permis", "Разрешено"]),
    ("language", ["Language", "Langue", "Язык"]),
    ("reference", ["Reference", "Référence", "Номер"]),
    ("latitude", ["Latitude", "Latitude", "Широта"]),
    ("longitude", ["Longitude", "Longitude", "Долгота"]),
    ("due", ["Due", "Échéance", "Срок"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_names_everything_in_its_own_words() {
        for (code, names) in KINDS.iter().chain(FIELDS) {
            assert!(names.iter().all(|name| !name.is_empty()), "{code}");
            assert!(names[2].chars().any(|c| ('а'..='я').contains(&c)), "{code}");
        }
        assert_eq!(FR.kind("message_of_tomorrow"), "message of tomorrow");
    }
}
