//! The words of the certificate's page, in English, French and Russian. What a participant of another team calls by a
//! code of its own is called by that code.

/// What the page says in one language.
pub struct Words {
    pub tag: &'static str,
    pub title: &'static str,
    pub summary: &'static str,
    /// The summary, where the data of one purpose alone were erased.
    pub purpose_summary: &'static str,
    pub purpose: &'static str,
    pub purpose_deleted: &'static str,
    pub request: &'static str,
    pub when: &'static str,
    pub requested: &'static str,
    pub acknowledged: &'static str,
    pub due: &'static str,
    pub completed: &'static str,
    pub keys_gone: &'static str,
    pub backups_gone: &'static str,
    pub backups_unstated: &'static str,
    pub kept_title: &'static str,
    pub until: &'static str,
    pub no_end: &'static str,
    pub exceptions_title: &'static str,
    pub no_exceptions: &'static str,
    pub late: &'static str,
    pub held: &'static str,
    pub after_due: &'static str,
    pub proof_title: &'static str,
    pub who: &'static str,
    pub answered: &'static str,
    pub pieces: &'static str,
    pub digest: &'static str,
    pub positions: &'static str,
    /// Fence, delete, destroy keys, sweep.
    pub steps: [&'static str; 4],
    pub check_title: &'static str,
    pub check: &'static str,
    pub yours: &'static str,
    /// The place of this language in [`KEPT`] and [`GROUNDS`].
    column: usize,
}

impl Words {
    /// What is kept, in plain words.
    pub fn kept(&self, what: &str) -> String {
        self.of(KEPT, what)
    }

    /// Why it is kept.
    pub fn ground(&self, ground: &str) -> String {
        self.of(GROUNDS, ground)
    }

    fn of(&self, names: &[(&str, [&'static str; 3])], code: &str) -> String {
        let known = names.iter().find(|(known, _)| *known == code);
        known.map_or_else(|| code.replace('_', " "), |(_, names)| names[self.column].to_owned())
    }
}

/// Each language.
pub static ALL: [&Words; 3] = [&EN, &FR, &RU];

/// What Assent's own services keep.
const KEPT: &[(&str, [&str; 3])] = &[
    (
        "fence",
        [
            "A random number with a mark that it was erased",
            "Un numéro aléatoire, marqué comme effacé",
            "Случайный номер с отметкой об удалении",
        ],
    ),
    (
        "suppression",
        [
            "A fingerprint of each of your numbers that can be compared and not read",
            "Une empreinte de chacun de vos numéros, qui se compare et ne se lit pas",
            "Отпечаток каждого вашего номера: его можно сравнить, но не прочитать",
        ],
    ),
    (
        "closed_addresses",
        [
            "A keyed hash of each of your numbers, closed for messages",
            "Une empreinte à clé de chacun de vos numéros, fermée aux messages",
            "Хеш каждого вашего номера на ключе, закрытый для сообщений",
        ],
    ),
    (
        "events",
        [
            "The fact that somebody was registered and erased, under that random number, with a keyed hash of each of your numbers and nothing else of yours",
            "Le fait que quelqu’un a été enregistré puis effacé, sous ce numéro aléatoire, avec une empreinte à clé de chacun de vos numéros et rien d’autre de vous",
            "Факт, что кто-то был записан и удалён, под этим случайным номером, с хешем каждого вашего номера на ключе и ничем больше о вас",
        ],
    ),
    (
        "request",
        [
            "This request with its dates and this certificate",
            "Cette demande avec ses dates et ce certificat",
            "Этот запрос с его датами и это свидетельство",
        ],
    ),
    (
        "consent_proof",
        [
            "The proof of what you had agreed to",
            "La preuve de ce à quoi vous aviez consenti",
            "Доказательство того, на что вы соглашались",
        ],
    ),
    (
        "verdicts",
        [
            "The record of when a message of this purpose to you was allowed or refused, without its text",
            "La trace de quand un message de cette finalité vous était permis ou refusé, sans son texte",
            "Запись о том, когда сообщение этой цели вам было разрешено или запрещено, без его текста",
        ],
    ),
    (
        "message_log",
        [
            "The log that messages of this purpose to you were asked for and sent: random numbers and times, without texts",
            "Le journal indiquant que des messages de cette finalité vous ont été demandés et envoyés : numéros aléatoires et heures, sans textes",
            "Журнал того, что сообщения этой цели вам заказывались и отправлялись: случайные номера и время, без текстов",
        ],
    ),
    (
        "contact_data",
        [
            "Your name, your numbers and what you wrote yourself",
            "Votre nom, vos numéros et ce que vous avez écrit vous-même",
            "Ваше имя, ваши номера и то, что вы писали сами",
        ],
    ),
];

const GROUNDS: &[(&str, [&str; 3])] = &[
    (
        "stays_erased",
        [
            "So that you stay erased when somebody brings your number in again",
            "Pour que vous restiez effacée si quelqu’un apporte à nouveau votre numéro",
            "Чтобы вы остались удалены, если кто-то внесёт ваш номер снова",
        ],
    ),
    (
        "record_of_processing",
        [
            "So that the record of what was done stays whole",
            "Pour que le registre de ce qui a été fait reste entier",
            "Чтобы запись о том, что делалось, осталась целой",
        ],
    ),
    (
        "accountability",
        [
            "To show that the request was answered",
            "Pour montrer qu’il a été répondu à la demande",
            "Чтобы показать, что на запрос ответили",
        ],
    ),
    (
        "proof_of_consent",
        [
            "The law asks to be able to show what was agreed to and that it was respected",
            "La loi demande de pouvoir montrer ce qui a été consenti et que cela a été respecté",
            "Закон требует уметь показать, на что было согласие и что его соблюдали",
        ],
    ),
    (
        "log_stays_whole",
        [
            "Nothing can be cut out of the log; it tells of nobody any more once all your data are erased",
            "Rien ne peut être retiré du journal ; il ne parle plus de personne une fois toutes vos données effacées",
            "Из журнала ничего нельзя вырезать; он ни о ком не говорит, когда удалены все ваши данные",
        ],
    ),
    (
        "not_of_one_purpose",
        [
            "They belong to no single purpose; the erasure of all your data takes them too",
            "Elles n’appartiennent à aucune finalité seule ; l’effacement de toutes vos données les emporte aussi",
            "Они не принадлежат одной цели; их берёт удаление всех ваших данных",
        ],
    ),
];

static EN: Words = Words {
    tag: "en",
    title: "Certificate of erasure",
    summary: "erased the data of the person who made this request, everywhere it is held. Every service that could hold some has answered for itself.",
    purpose_summary: "erased the data that it held of the person who made this request for one purpose, up to the first step below. Every service that could hold some has answered for itself. Data for other purposes are not meant, and are still there.",
    purpose: "Purpose",
    purpose_deleted: "These data were deleted. They were not made unreadable by destroying a key: your key also seals what other purposes need, and stays. Backups made before hold these data until the backups end.",
    request: "Request",
    when: "What happened when",
    requested: "Request received",
    acknowledged: "Receipt confirmed",
    due: "To be done before",
    completed: "Erased everywhere",
    keys_gone: "Keys destroyed: nothing that was sealed under them can be read any more",
    backups_gone: "The last backup of these keys ends",
    backups_unstated: "When the last backup of these keys ends is not stated.",
    kept_title: "What is kept",
    until: "Until",
    no_end: "It has no end",
    exceptions_title: "What didn’t go as it should",
    no_exceptions: "Nothing.",
    late: "Answered only after the time of the step was over",
    held: "A legal obligation kept the data from being erased:",
    after_due: "It was completed after the legal term.",
    proof_title: "What each service proved",
    who: "Service",
    answered: "Answered",
    pieces: "Pieces",
    digest: "SHA-256 of their list",
    positions: "Read up to",
    steps: [
        "Took nothing in any more",
        "Deleted",
        "Destroyed keys",
        "Looked everywhere and found nothing",
    ],
    check_title: "How to check it",
    check: "This page is only for reading. The proof is the file certificate.jws (JWS, Ed25519), checked against the public key that the company publishes: with “assent verify certificate.jws --key KEY”, or with any JOSE library.",
    yours: "It names nobody. It is yours if the SHA-256 of the secret that you were given with your request is:",
    column: 0,
};

static FR: Words = Words {
    tag: "fr",
    title: "Certificat d’effacement",
    summary: "a effacé les données de la personne qui a fait cette demande, partout où elles étaient détenues. Chaque service qui pouvait en détenir en a répondu pour lui-même.",
    purpose_summary: "a effacé les données qu’elle détenait, pour une seule finalité, sur la personne qui a fait cette demande, jusqu’à la première étape ci-dessous. Chaque service qui pouvait en détenir en a répondu pour lui-même. Les données d’autres finalités ne sont pas concernées et restent là.",
    purpose: "Finalité",
    purpose_deleted: "Ces données ont été supprimées. Elles n’ont pas été rendues illisibles par la destruction d’une clé : votre clé scelle aussi ce dont d’autres finalités ont besoin, et reste. Les sauvegardes faites avant contiennent ces données jusqu’à leur fin.",
    request: "Demande",
    when: "Ce qui s’est passé, et quand",
    requested: "Demande reçue",
    acknowledged: "Réception confirmée",
    due: "À faire avant",
    completed: "Effacé partout",
    keys_gone: "Clés détruites : rien de ce qu’elles scellaient ne peut plus être lu",
    backups_gone: "Fin de la dernière sauvegarde de ces clés",
    backups_unstated: "La fin de la dernière sauvegarde de ces clés n’est pas indiquée.",
    kept_title: "Ce qui est conservé",
    until: "Jusqu’au",
    no_end: "Sans terme",
    exceptions_title: "Ce qui ne s’est pas passé comme prévu",
    no_exceptions: "Rien.",
    late: "Réponse reçue après le délai de l’étape",
    held: "Une obligation légale a retenu l’effacement :",
    after_due: "L’effacement a été achevé après le délai légal.",
    proof_title: "Ce que chaque service a prouvé",
    who: "Service",
    answered: "Réponse",
    pieces: "Éléments",
    digest: "SHA-256 de leur liste",
    positions: "Lu jusqu’à",
    steps: [
        "N’accepte plus rien",
        "A supprimé",
        "A détruit les clés",
        "A cherché partout et n’a rien trouvé",
    ],
    check_title: "Comment le vérifier",
    check: "Cette page n’est faite que pour être lue. La preuve est le fichier certificate.jws (JWS, Ed25519), vérifié avec la clé publique que publie l’entreprise : par « assent verify certificate.jws --key CLÉ », ou par toute bibliothèque JOSE.",
    yours: "Il ne nomme personne. C’est le vôtre si le SHA-256 du secret qui vous a été remis avec votre demande est :",
    column: 1,
};

static RU: Words = Words {
    tag: "ru",
    title: "Свидетельство об удалении",
    summary: "— данные человека, подавшего этот запрос, удалены везде, где хранились. Каждая служба, которая могла их хранить, ответила за себя.",
    purpose_summary: "— данные человека, подавшего этот запрос, хранившиеся для одной цели, удалены по первый из шагов ниже. Каждая служба, которая могла их хранить, ответила за себя. Данные для других целей не затронуты и остаются.",
    purpose: "Цель",
    purpose_deleted: "Эти данные удалены. Они не сделаны нечитаемыми уничтожением ключа: вашим ключом закрыто и то, что нужно для других целей, и он остаётся. Резервные копии, сделанные раньше, хранят эти данные, пока не истекут.",
    request: "Запрос",
    when: "Что и когда произошло",
    requested: "Запрос получен",
    acknowledged: "Получение подтверждено",
    due: "Исполнить до",
    completed: "Удалено везде",
    keys_gone: "Ключи уничтожены: ничего из закрытого ими прочитать больше нельзя",
    backups_gone: "Последняя резервная копия этих ключей истекает",
    backups_unstated: "Когда истекает последняя резервная копия этих ключей, не указано.",
    kept_title: "Что сохраняется",
    until: "До",
    no_end: "Без срока",
    exceptions_title: "Что прошло не так, как должно",
    no_exceptions: "Ничего.",
    late: "Ответ пришёл после срока шага",
    held: "Удаление задерживала обязанность по закону:",
    after_due: "Удаление завершено после законного срока.",
    proof_title: "Что доказала каждая служба",
    who: "Служба",
    answered: "Ответ",
    pieces: "Записи",
    digest: "SHA-256 их списка",
    positions: "Прочитано до",
    steps: [
        "Больше ничего не принимает",
        "Удалила",
        "Уничтожила ключи",
        "Искала везде и ничего не нашла",
    ],
    check_title: "Как проверить",
    check: "Эта страница только для чтения. Доказательство — файл certificate.jws (JWS, Ed25519); он сверяется с открытым ключом, который публикует компания: командой «assent verify certificate.jws --key КЛЮЧ» или любой библиотекой JOSE.",
    yours: "Имён в нём нет. Оно ваше, если SHA-256 секрета, выданного вам с запросом, равен:",
    column: 2,
};
