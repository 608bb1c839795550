//! The words of a screening's page: what each reason means and what would have to be done to get
//! there lawfully, in English, French and Russian.

use clap::ValueEnum;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    /// English.
    En,
    /// French.
    Fr,
    /// Russian.
    Ru,
}

/// The fixed words.
pub struct Words {
    pub title: &'static str,
    pub purpose: &'static str,
    pub at: &'static str,
    pub record: &'static str,
    pub rows: &'static str,
    pub allowed: &'static str,
    pub denied: &'static str,
    pub reasons: &'static str,
    pub chart: &'static str,
    pub reason: &'static str,
    pub meaning: &'static str,
    pub remedy: &'static str,
    pub note: &'static str,
}

/// What a reason says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Lang {
    /// BCP 47.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Fr => "fr",
            Self::Ru => "ru",
        }
    }

    /// The fixed words of the page.
    #[must_use]
    pub fn words(self) -> &'static Words {
        match self {
            Self::En => &EN,
            Self::Fr => &FR,
            Self::Ru => &RU,
        }
    }
}

/// What a reason says; a code that is not in the list is a row that could not be read.
#[must_use]
pub fn reason(code: &str, lang: Lang) -> Reason {
    let [.., (_, unreadable)] = &REASONS;
    let texts = REASONS.iter().find(|(known, _)| *known == code).map_or(unreadable, |(_, it)| it);
    let (meaning, remedy) = texts[lang as usize];
    Reason { meaning, remedy }
}

const EN: Words = Words {
    title: "Who of this list may be messaged",
    purpose: "Purpose",
    at: "Screened at",
    record: "On record as",
    rows: "Rows",
    allowed: "May be messaged",
    denied: "May not",
    reasons: "Why",
    chart: "Rows by reason; the table below has the same figures",
    reason: "Reason",
    meaning: "What it means",
    remedy: "What to do",
    note: "A row can have several reasons. The answer is that of the moment: before each message the gate is asked again. Nothing of the list was stored.",
};

const FR: Words = Words {
    title: "À qui de cette liste peut-on écrire",
    purpose: "Finalité",
    at: "Date du contrôle",
    record: "Enregistré sous",
    rows: "Lignes",
    allowed: "Peuvent recevoir un message",
    denied: "Ne le peuvent pas",
    reasons: "Pourquoi",
    chart: "Nombre de lignes par motif ; le tableau ci-dessous donne les mêmes chiffres",
    reason: "Motif",
    meaning: "Ce que cela signifie",
    remedy: "Que faire",
    note: "Une ligne peut avoir plusieurs motifs. La réponse vaut pour l’instant du contrôle : avant chaque message, la question est posée à nouveau. Rien de la liste n’a été conservé.",
};

const RU: Words = Words {
    title: "Кому из этого списка можно писать",
    purpose: "Цель",
    at: "Время проверки",
    record: "Номер в журнале",
    rows: "Строк",
    allowed: "Можно писать",
    denied: "Нельзя",
    reasons: "Почему",
    chart: "Число строк по причинам; те же числа — в таблице ниже",
    reason: "Причина",
    meaning: "Что это значит",
    remedy: "Что делать",
    note: "У строки может быть несколько причин. Ответ верен на момент проверки: перед каждым сообщением вопрос задаётся снова. Ничего из списка не сохранено.",
};

/// Meaning and remedy in English, French and Russian. The last one is for rows that can't be read.
const REASONS: [(&str, [(&str, &str); 3]); 16] = [
    (
        "consent_given",
        [
            ("Agreed, and the consent is in force.", "May be messaged for this purpose."),
            (
                "A donné son accord, qui est en vigueur.",
                "Peut recevoir des messages pour cette finalité.",
            ),
            ("Согласие дано и действует.", "Можно писать с этой целью."),
        ],
    ),
    (
        "notice_changed",
        [
            (
                "Agreed to something that has changed since.",
                "Ask again with the notice of today, on a road that the person opens.",
            ),
            (
                "A donné son accord à un texte qui a changé depuis.",
                "Redemander avec le texte d’aujourd’hui, à l’occasion d’un contact venant de la personne.",
            ),
            (
                "Согласие дано на то, что с тех пор изменилось.",
                "Спросить заново с нынешним текстом, когда человек сам обратится.",
            ),
        ],
    ),
    (
        "no_consent",
        [
            (
                "Never agreed to this purpose.",
                "Ask on a road that the person opens: a form, a page, a message of theirs. Don't ask by WhatsApp first.",
            ),
            (
                "N’a jamais donné son accord pour cette finalité.",
                "Demandez-le par une voie que la personne ouvre elle-même : un formulaire, une page, un message de sa part. Pas par WhatsApp en premier.",
            ),
            (
                "Согласия на эту цель никогда не было.",
                "Спросите там, куда человек пришёл сам: форма, страница, его собственное сообщение. Не начинайте с WhatsApp.",
            ),
        ],
    ),
    (
        "consent_expired",
        [
            (
                "Agreed once; the time of the consent is over.",
                "Ask again, on a road that the person opens.",
            ),
            (
                "L’accord donné est arrivé à son terme.",
                "Demandez-le à nouveau, par une voie que la personne ouvre.",
            ),
            ("Согласие было, но его срок истёк.", "Спросите снова там, куда человек пришёл сам."),
        ],
    ),
    (
        "consent_refused",
        [
            ("Said no.", "Leave them alone. They may change their mind by an act of their own."),
            ("A refusé.", "N’insistez pas. La personne peut changer d’avis d’elle-même."),
            ("Человек отказался.", "Не настаивайте. Передумать он может только сам."),
        ],
    ),
    (
        "consent_unconfirmed",
        [
            (
                "Said yes, and hasn’t confirmed it yet.",
                "Wait for the confirmation; it comes from the person’s own number or by the link.",
            ),
            (
                "A dit oui, sans l’avoir encore confirmé.",
                "Attendre la confirmation, qui vient du numéro de la personne ou par le lien.",
            ),
            (
                "Согласие дано, но ещё не подтверждено.",
                "Дождаться подтверждения с номера самого человека или по ссылке.",
            ),
        ],
    ),
    (
        "consent_withdrawn",
        [
            (
                "Took the consent back.",
                "Leave them alone. They may change their mind by an act of their own.",
            ),
            (
                "A retiré son accord.",
                "N’insistez pas. La personne peut changer d’avis d’elle-même.",
            ),
            ("Согласие отозвано.", "Не настаивайте. Передумать человек может только сам."),
        ],
    ),
    (
        "stopped",
        [
            ("Someone said stop from this number.", "Only an opt-in from this number lifts it."),
            ("STOP a été envoyé depuis ce numéro.", "Seul un accord venant de ce numéro le lève."),
            ("С этого номера пришёл СТОП.", "Снять его может только согласие с этого же номера."),
        ],
    ),
    (
        "suppressed",
        [
            (
                "The number is on a list of opt-outs.",
                "Take the row off your list. Only the person's own act lifts it.",
            ),
            (
                "Le numéro figure sur une liste d’opposition.",
                "Retirez la ligne de votre liste. Seul un acte de la personne le lève.",
            ),
            (
                "Номер в списке отказавшихся.",
                "Уберите строку из списка. Снять запрет может только сам человек.",
            ),
        ],
    ),
    (
        "erased",
        [
            (
                "The person was erased at their request.",
                "Delete the row. Only their own act opens a new relation.",
            ),
            (
                "La personne a été effacée à sa demande.",
                "Supprimez la ligne. Seul un acte de la personne ouvre une nouvelle relation.",
            ),
            (
                "Данные человека удалены по его просьбе.",
                "Удалите строку. Новые отношения может начать только он сам.",
            ),
        ],
    ),
    (
        "linked_subject_denies",
        [
            (
                "Somebody who shares this number said no.",
                "Nobody is messaged at this number until they agree.",
            ),
            (
                "Une personne qui partage ce numéro a dit non.",
                "Personne n’est joint à ce numéro tant qu’elle n’a pas donné son accord.",
            ),
            (
                "Отказался человек с тем же номером.",
                "На этот номер не пишут никому, пока он не согласится.",
            ),
        ],
    ),
    (
        "wrong_country",
        [
            (
                "The number is from another country than the row says.",
                "Check the number and the country: another law may apply.",
            ),
            (
                "Le numéro est d’un autre pays que celui de la ligne.",
                "Vérifiez le numéro et le pays : une autre loi peut s’appliquer.",
            ),
            (
                "Номер не той страны, что указана в строке.",
                "Проверьте номер и страну: может действовать другой закон.",
            ),
        ],
    ),
    (
        "not_mobile",
        [
            (
                "A land line or a service number.",
                "Ask for a mobile number; messages don't arrive here.",
            ),
            (
                "Un numéro fixe ou spécial.",
                "Demandez un numéro de mobile ; ici, les messages n’arrivent pas.",
            ),
            ("Городской или служебный номер.", "Попросите мобильный: сюда сообщения не доходят."),
        ],
    ),
    (
        "duplicate",
        [
            ("The same number stands further up in the list.", "Keep one of the rows."),
            ("Le même numéro figure plus haut dans la liste.", "Gardez une seule des lignes."),
            ("Тот же номер уже есть выше в списке.", "Оставьте одну из строк."),
        ],
    ),
    (
        "address_missing",
        [
            (
                "Came in a moment ago: the gate doesn't know the number yet.",
                "Screen again in a moment.",
            ),
            (
                "Vient d’être enregistré : le numéro n’est pas encore connu partout.",
                "Relancez le contrôle dans un instant.",
            ),
            ("Добавлен только что: номер ещё не всюду известен.", "Повторите проверку чуть позже."),
        ],
    ),
    (
        "unreadable",
        [
            ("No phone number can be read from the row.", "Correct the row and screen it again."),
            (
                "Aucun numéro ne peut être lu dans la ligne.",
                "Corrigez la ligne et relancez le contrôle.",
            ),
            ("В строке нельзя прочесть номер.", "Исправьте строку и проверьте снова."),
        ],
    ),
];
