//! The words of the pages, in English, French and Russian.

use assent_contracts::code::SENTENCES;

use crate::language::Language;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the pages say in one language.
        #[derive(Debug)]
        pub struct Words {
            $($(#[$doc])* pub $name: &'static str,)*
        }
    };
}

words! {
    /// Label of the choice of languages.
    languages,
    /// In the footer, before the number.
    or_write_stop,
    /// Title of the preference page, before the controller's name.
    messages_from,
    stop_here,
    stop_everything,
    stop_one,
    stop,
    see_settings,
    why_prove,
    show_settings,
    only_stop,
    /// Title of the page with the code.
    prove_title,
    send_this,
    open_whatsapp,
    sent_it,
    not_yet,
    /// Title of the settings.
    settings_title,
    saved,
    details,
    yes,
    no,
    everything,
    receipts,
    no_receipts,
    to_read,
    end_title,
    end,
    ended,
    /// States, before a date.
    given,
    given_until,
    refused,
    withdrawn,
    expired,
    requested,
    never,
    /// Title and texts of the pages to join.
    join_title,
    what_we_ask,
    how_to_agree,
    agree_by_sending,
    nothing_before,
    /// Confirmation by a link.
    confirm_title,
    confirm_why,
    confirm,
    confirm_not,
    confirmed,
    confirm_over,
    /// After a stop.
    stopped_title,
    stopped,
    stopped_everything_instead,
    /// Troubles.
    trouble_title,
    link_unknown,
    visit_over,
    not_found,
    unavailable,
    malformed,
    no_notice,
    notice_changed,
    /// Tracking of requests.
    request_title,
    request_ask,
    request_reference,
    request_secret,
    request_show,
    request_unknown,
    request_received,
    request_due,
    request_identity_pending,
    request_open,
    /// States of requests, before a date.
    request_answered,
    request_refused,
    /// Kinds of requests, in their order.
    kinds,
    archive_title,
    /// Before the last moment.
    archive_ready,
    archive_once,
    archive_take,
    /// Before a date.
    archive_collected,
    archive_gone,
    certificate_title,
    certificate_why,
    certificate_take,
    items,
}

/// The words of a language.
#[must_use]
pub const fn words(language: Language) -> &'static Words {
    match language {
        Language::En => &EN,
        Language::Fr => &FR,
        Language::Ru => &RU,
    }
}

/// The sentences that are sent with a code: that she agrees, that her settings may be opened.
#[must_use]
pub fn sentences(language: Language) -> (&'static str, &'static str) {
    let own = SENTENCES.iter().find(|(tag, ..)| *tag == language.tag());
    let (_, agree, open) = own.unwrap_or(&SENTENCES[0]);
    (agree, open)
}

/// The names of a notice's items, in the order of the items.
#[must_use]
pub fn item_names(words: &Words) -> Vec<&'static str> {
    words.items.split('|').collect()
}

static EN: Words = Words {
    languages: "Language",
    or_write_stop: "You can also write STOP by WhatsApp to",
    messages_from: "Messages from",
    stop_here: "You can stop them here, at once. Nothing else is needed.",
    stop_everything: "Stop all messages",
    stop_one: "Or stop one kind only",
    stop: "Stop",
    see_settings: "See or change your settings",
    why_prove: "So that nobody but you sees or changes them, we ask for one message from your number.",
    show_settings: "Show my settings",
    only_stop: "This link is good for stopping messages only.",
    prove_title: "Show that it is you",
    send_this: "If you have opened this page yourself, send this message by WhatsApp from your own number to",
    open_whatsapp: "Open WhatsApp",
    sent_it: "I have sent it",
    not_yet: "The code has not arrived from your number yet. Send it, then try again.",
    settings_title: "Your settings",
    saved: "Saved.",
    details: "What else you should know",
    yes: "Yes, I agree",
    no: "No, I don’t",
    everything: "All messages",
    receipts: "Receipts",
    no_receipts: "You have said nothing yet of which there could be a receipt.",
    to_read: "to read",
    end_title: "Done?",
    end: "Leave this page",
    ended: "You have left your settings.",
    given: "You agreed on",
    given_until: "It ends by itself on",
    refused: "You said no on",
    withdrawn: "You withdrew your consent on",
    expired: "Your consent ended on",
    requested: "A yes that you have not confirmed yet, of",
    never: "You have not answered yet: nothing is sent to you for this.",
    join_title: "What we ask you",
    what_we_ask: "Choose, read, and agree only to what you want. Each is asked on its own.",
    how_to_agree: "If you agree",
    agree_by_sending: "You agree by sending this message from your own number to",
    nothing_before: "Until you send it nothing is stored. If you don’t agree, close this page.",
    confirm_title: "Please confirm",
    confirm_why: "Somebody, most likely you, agreed with your number to this. It counts only if you confirm it:",
    confirm: "Yes, it was me",
    confirm_not: "If it wasn’t you, close this page: without a confirmation nothing is sent.",
    confirmed: "Thank you: your consent is confirmed. You can take it back at any time.",
    confirm_over: "This confirmation can’t be used any more: it was used, it is over, or you have said no since.",
    stopped_title: "Stopped",
    stopped: "Nothing of this is sent to you from now on.",
    stopped_everything_instead: "One of our systems is not available, so we have stopped all messages to you, whatever they were about. They stay stopped until you agree again. One that was on its way may still arrive within seconds.",
    trouble_title: "Something is in the way",
    link_unknown: "This link is not valid.",
    visit_over: "Your visit is over, or was never begun. Open the link that you got from us again.",
    not_found: "There is no such page.",
    unavailable: "One of our systems does not answer. Try again in a minute; a STOP by WhatsApp works at once.",
    malformed: "Your browser sent something that we could not understand. Go back and try again.",
    no_notice: "There is nothing that you could agree to here.",
    notice_changed: "The text has changed while you were reading. Please read it again before you agree.",
    request_title: "Your request",
    request_ask: "Type the reference and the secret that you were given when you asked.",
    request_reference: "Reference",
    request_secret: "Secret",
    request_show: "Show my request",
    request_unknown: "No request has this reference and this secret. Look at both again.",
    request_received: "Received on",
    request_due: "Answer before",
    request_identity_pending: "We wait for a proof that it is you who asks.",
    request_open: "We are working on it.",
    request_answered: "Done on",
    request_refused: "Refused on",
    kinds: "Erasure|To see what we hold about you|To take your data along|Correction|Restriction|Objection|Opt-out of sale or sharing",
    archive_title: "Your data",
    archive_ready: "Your data are ready. You can take them until",
    archive_once: "They can be taken once. They come as one file (data.zip) with pages to read and the same for machines. Keep it where nobody else can read it.",
    archive_take: "Take my data",
    archive_collected: "You took your data on",
    archive_gone: "These data can’t be taken any more: they were taken, their time was over, or they are being erased. Ask us to put them together again.",
    certificate_title: "Proof that you were erased",
    certificate_why: "A signed certificate that names nobody. Keep your secret with it: it shows that the certificate is yours.",
    certificate_take: "Take the certificate",
    items: "Kinds of data|Where to complain|Profiling|Who gets the data|For how long|Your rights|Where we have it from|Other countries|How to withdraw",
};

static FR: Words = Words {
    languages: "Langue",
    or_write_stop: "Vous pouvez aussi écrire STOP par WhatsApp au",
    messages_from: "Messages de",
    stop_here: "Vous pouvez les arrêter ici, tout de suite. Rien d’autre n’est nécessaire.",
    stop_everything: "Arrêter tous les messages",
    stop_one: "Ou n’en arrêter qu’une sorte",
    stop: "Arrêter",
    see_settings: "Voir ou changer vos choix",
    why_prove: "Pour que personne d’autre que vous ne les voie ni ne les change, nous demandons un message de votre numéro.",
    show_settings: "Voir mes choix",
    only_stop: "Ce lien ne permet que d’arrêter les messages.",
    prove_title: "Montrez que c’est bien vous",
    send_this: "Si vous avez ouvert cette page vous-même, envoyez ce message par WhatsApp, depuis votre propre numéro, au",
    open_whatsapp: "Ouvrir WhatsApp",
    sent_it: "Je l’ai envoyé",
    not_yet: "Le code n’est pas encore arrivé de votre numéro. Envoyez-le, puis réessayez.",
    settings_title: "Vos choix",
    saved: "Enregistré.",
    details: "Ce qu’il faut savoir d’autre",
    yes: "Oui, j’accepte",
    no: "Non, je refuse",
    everything: "Tous les messages",
    receipts: "Récépissés",
    no_receipts: "Vous n’avez encore rien dit dont il pourrait y avoir un récépissé.",
    to_read: "à lire",
    end_title: "Terminé ?",
    end: "Quitter cette page",
    ended: "Vous avez quitté vos choix.",
    given: "Vous avez donné votre accord le",
    given_until: "Il prend fin de lui-même le",
    refused: "Vous avez refusé le",
    withdrawn: "Vous avez retiré votre accord le",
    expired: "Votre accord a pris fin le",
    requested: "Un oui que vous n’avez pas encore confirmé, du",
    never: "Vous n’avez pas encore répondu : rien ne vous est envoyé à ce titre.",
    join_title: "Ce que nous vous demandons",
    what_we_ask: "Choisissez, lisez, et n’acceptez que ce que vous voulez. Chaque chose est demandée à part.",
    how_to_agree: "Si vous êtes d’accord",
    agree_by_sending: "Vous donnez votre accord en envoyant ce message, depuis votre propre numéro, au",
    nothing_before: "Tant que vous ne l’envoyez pas, rien n’est conservé. Si vous n’êtes pas d’accord, fermez cette page.",
    confirm_title: "Merci de confirmer",
    confirm_why: "Quelqu’un, sans doute vous, a accepté ceci avec votre numéro. Cela ne compte que si vous le confirmez :",
    confirm: "Oui, c’était moi",
    confirm_not: "Si ce n’était pas vous, fermez cette page : sans confirmation, rien n’est envoyé.",
    confirmed: "Merci : votre accord est confirmé. Vous pouvez le retirer à tout moment.",
    confirm_over: "Cette confirmation ne peut plus servir : elle a servi, elle est trop ancienne, ou vous avez refusé depuis.",
    stopped_title: "Arrêté",
    stopped: "Plus rien de tel ne vous est envoyé désormais.",
    stopped_everything_instead: "Un de nos systèmes n’est pas disponible : nous avons donc arrêté tous les messages, quel que soit leur sujet. Ils le restent jusqu’à ce que vous donniez de nouveau votre accord. Un message déjà parti peut encore arriver dans les secondes qui viennent.",
    trouble_title: "Il y a un obstacle",
    link_unknown: "Ce lien n’est pas valable.",
    visit_over: "Votre visite est terminée, ou n’a jamais commencé. Ouvrez de nouveau le lien que vous avez reçu de nous.",
    not_found: "Cette page n’existe pas.",
    unavailable: "Un de nos systèmes ne répond pas. Réessayez dans une minute ; un STOP par WhatsApp agit tout de suite.",
    malformed: "Votre navigateur a envoyé quelque chose que nous n’avons pas compris. Revenez en arrière et réessayez.",
    no_notice: "Il n’y a rien ici à quoi donner votre accord.",
    notice_changed: "Le texte a changé pendant que vous lisiez. Relisez-le avant d’accepter.",
    request_title: "Votre demande",
    request_ask: "Saisissez la référence et le secret qui vous ont été remis lors de votre demande.",
    request_reference: "Référence",
    request_secret: "Secret",
    request_show: "Voir ma demande",
    request_unknown: "Aucune demande n’a cette référence et ce secret. Vérifiez les deux.",
    request_received: "Reçue le",
    request_due: "Réponse avant le",
    request_identity_pending: "Nous attendons la preuve que la demande vient de vous.",
    request_open: "Nous y travaillons.",
    request_answered: "Traitée le",
    request_refused: "Refusée le",
    kinds: "Effacement|Voir ce que nous détenons sur vous|Emporter vos données|Rectification|Limitation|Opposition|Refus de la vente ou du partage",
    archive_title: "Vos données",
    archive_ready: "Vos données sont prêtes. Vous pouvez les emporter jusqu’au",
    archive_once: "Elles ne peuvent être emportées qu’une fois. C’est un seul fichier (data.zip), avec des pages à lire et le même contenu lisible par machine. Gardez-le là où personne d’autre ne peut le lire.",
    archive_take: "Emporter mes données",
    archive_collected: "Vous avez emporté vos données le",
    archive_gone: "Ces données ne peuvent plus être emportées : elles l’ont été, leur délai est passé, ou elles sont en cours d’effacement. Demandez-nous de les réunir à nouveau.",
    certificate_title: "La preuve de votre effacement",
    certificate_why: "Un certificat signé qui ne nomme personne. Gardez-y joint votre secret : il montre que ce certificat est le vôtre.",
    certificate_take: "Emporter le certificat",
    items: "Sortes de données|Où réclamer|Profilage|Qui reçoit les données|Pour combien de temps|Vos droits|D’où nous les tenons|Autres pays|Comment retirer votre accord",
};

static RU: Words = Words {
    languages: "Язык",
    or_write_stop: "Можно также написать СТОП в WhatsApp на номер",
    messages_from: "Сообщения от",
    stop_here: "Здесь их можно остановить, сразу. Больше ничего не нужно.",
    stop_everything: "Остановить все сообщения",
    stop_one: "Или остановить только один вид",
    stop: "Остановить",
    see_settings: "Посмотреть или изменить ваш выбор",
    why_prove: "Чтобы никто, кроме вас, его не видел и не менял, мы просим прислать одно сообщение с вашего номера.",
    show_settings: "Показать мой выбор",
    only_stop: "По этой ссылке можно только остановить сообщения.",
    prove_title: "Покажите, что это вы",
    send_this: "Если вы сами открыли эту страницу, отправьте это сообщение в WhatsApp со своего номера на номер",
    open_whatsapp: "Открыть WhatsApp",
    sent_it: "Отправлено",
    not_yet: "С вашего номера код ещё не пришёл. Отправьте его и попробуйте снова.",
    settings_title: "Ваш выбор",
    saved: "Сохранено.",
    details: "Что ещё нужно знать",
    yes: "Да, согласие даю",
    no: "Нет, не даю",
    everything: "Все сообщения",
    receipts: "Квитанции",
    no_receipts: "Пока нет ничего, о чём могла бы быть квитанция.",
    to_read: "прочитать",
    end_title: "Всё?",
    end: "Закрыть эту страницу",
    ended: "Страница с вашим выбором закрыта.",
    given: "Согласие дано",
    given_until: "Оно само закончится",
    refused: "Отказ от",
    withdrawn: "Согласие отозвано",
    expired: "Срок согласия закончился",
    requested: "Согласие, которое ещё не подтверждено, от",
    never: "Ответа ещё нет: с этой целью вам ничего не отправляют.",
    join_title: "О чём мы вас спрашиваем",
    what_we_ask: "Выберите, прочитайте и соглашайтесь только на то, что хотите. О каждой цели мы спрашиваем отдельно.",
    how_to_agree: "Если вы согласны",
    agree_by_sending: "Вы даёте согласие, отправляя это сообщение со своего номера на номер",
    nothing_before: "Пока вы его не отправили, ничего не сохраняется. Если вы не согласны, закройте эту страницу.",
    confirm_title: "Подтвердите, пожалуйста",
    confirm_why: "Кто-то, скорее всего вы, дал с вашим номером такое согласие. Оно действует, только если вы его подтвердите:",
    confirm: "Да, это было моё решение",
    confirm_not: "Если это были не вы, закройте эту страницу: без подтверждения ничего не отправляют.",
    confirmed: "Спасибо: согласие подтверждено. Его можно отозвать в любое время.",
    confirm_over: "Это подтверждение больше не действует: оно уже использовано, его срок прошёл, или с тех пор был отказ.",
    stopped_title: "Остановлено",
    stopped: "С этого момента вам такого больше не отправляют.",
    stopped_everything_instead: "Одна из наших систем недоступна, поэтому мы остановили все сообщения, о чём бы они ни были. Они остановлены, пока вы снова не дадите согласие. Сообщение, которое уже отправлено, ещё может прийти в ближайшие секунды.",
    trouble_title: "Что-то мешает",
    link_unknown: "Эта ссылка недействительна.",
    visit_over: "Ваш визит закончился или не начинался. Откройте ссылку, которую вы от нас получили, ещё раз.",
    not_found: "Такой страницы нет.",
    unavailable: "Одна из наших систем не отвечает. Попробуйте через минуту; СТОП в WhatsApp действует сразу.",
    malformed: "Браузер прислал что-то, чего мы не поняли. Вернитесь назад и попробуйте снова.",
    no_notice: "Здесь не на что давать согласие.",
    notice_changed: "Пока вы читали, текст изменился. Прочитайте его ещё раз, прежде чем соглашаться.",
    request_title: "Ваша просьба",
    request_ask: "Введите номер и секрет, которые вы получили, когда обратились.",
    request_reference: "Номер",
    request_secret: "Секрет",
    request_show: "Показать мою просьбу",
    request_unknown: "Просьбы с таким номером и секретом нет. Проверьте оба.",
    request_received: "Получена",
    request_due: "Ответ до",
    request_identity_pending: "Мы ждём подтверждения, что обращаетесь именно вы.",
    request_open: "Мы работаем над ней.",
    request_answered: "Выполнена",
    request_refused: "Отклонена",
    kinds: "Удаление|Узнать, что мы о вас храним|Забрать свои данные|Исправление|Ограничение|Возражение|Отказ от продажи и передачи",
    archive_title: "Ваши данные",
    archive_ready: "Ваши данные готовы. Их можно забрать до",
    archive_once: "Забрать их можно один раз. Это один файл (data.zip): страницы для чтения и то же для программ. Храните его там, где его не прочтёт никто другой.",
    archive_take: "Забрать мои данные",
    archive_collected: "Вы забрали данные",
    archive_gone: "Этих данных больше нельзя забрать: их уже забрали, срок истёк или они удаляются. Попросите нас составить их заново.",
    certificate_title: "Доказательство удаления",
    certificate_why: "Подписанное свидетельство, в котором нет имён. Храните с ним свой секрет: он показывает, что свидетельство ваше.",
    certificate_take: "Забрать свидетельство",
    items: "Виды данных|Куда жаловаться|Профилирование|Кто получает данные|На какой срок|Ваши права|Откуда они у нас|Другие страны|Как отозвать согласие",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_its_sentences() {
        for language in Language::ALL {
            assert!(SENTENCES.iter().any(|(tag, ..)| *tag == language.tag()), "{language:?}");
        }
    }

    #[test]
    fn every_language_names_every_item_of_a_notice() {
        for language in Language::ALL {
            assert_eq!(item_names(words(language)).len(), 9, "{language:?}");
        }
    }
}
