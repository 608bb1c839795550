//! Country codes for what people write into a country column. Numbers with a plus sign need no
//! country, so an unknown name matters only beside a national number.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::headers::normalise;

/// Codes with their names in English, French, Russian, German and Spanish and their own language,
/// in the normal form of [`normalise`], separated by commas.
const NAMES: &[(&str, &str)] = &[
    (
        "AE",
        "united arab emirates,emirats arabes unis,оаэ,vereinigte arabische emirate,emiratos arabes unidos,uae",
    ),
    ("AM", "armenia,armenie,армения,armenien"),
    ("AR", "argentina,argentine,аргентина,argentinien"),
    ("AT", "austria,autriche,австрия,osterreich"),
    ("AU", "australia,australie,австралия,australien"),
    ("AZ", "azerbaijan,azerbaidjan,азербайджан,aserbaidschan,azerbaiyan"),
    ("BE", "belgium,belgique,бельгия,belgien,belgica,belgie"),
    ("BR", "brazil,bresil,бразилия,brasilien,brasil"),
    ("BY", "belarus,bielorussie,беларусь,белоруссия,weissrussland,bielorrusia"),
    ("CA", "canada,канада,kanada"),
    ("CH", "switzerland,suisse,швеицария,schweiz,suiza,svizzera"),
    ("CL", "chile,chili,чили"),
    ("CN", "china,chine,китаи"),
    ("CO", "colombia,colombie,колумбия,kolumbien"),
    ("CZ", "czech republic,czechia,republique tcheque,tchequie,чехия,tschechien,chequia"),
    ("DE", "germany,allemagne,германия,deutschland,alemania"),
    ("DK", "denmark,danemark,дания,danemark,dinamarca,danmark"),
    ("DZ", "algeria,algerie,алжир,algerien,argelia"),
    ("EE", "estonia,estonie,эстония,estland"),
    ("ES", "spain,espagne,испания,spanien,espana"),
    ("FI", "finland,finlande,финляндия,finnland,finlandia,suomi"),
    ("FR", "france,франция,frankreich,francia,france metropolitaine"),
    (
        "GB",
        "united kingdom,uk,great britain,england,scotland,wales,royaume uni,великобритания,grossbritannien,reino unido",
    ),
    ("GE", "georgia,georgie,грузия,georgien"),
    ("GR", "greece,grece,греция,griechenland,grecia"),
    ("IE", "ireland,irlande,ирландия,irland,irlanda"),
    ("IL", "israel,израиль"),
    ("IN", "india,inde,индия,indien"),
    ("IT", "italy,italie,италия,italien,italia"),
    ("JP", "japan,japon,япония"),
    ("KG", "kyrgyzstan,kirghizistan,киргизия,кыргызстан,kirgisistan,kirguistan"),
    ("KZ", "kazakhstan,казахстан,kasachstan,kazajistan"),
    ("LT", "lithuania,lituanie,литва,litauen,lituania"),
    ("LU", "luxembourg,люксембург,luxemburg,luxemburgo"),
    ("LV", "latvia,lettonie,латвия,lettland,letonia"),
    ("MA", "morocco,maroc,марокко,marokko,marruecos"),
    ("MD", "moldova,moldavie,молдова,moldau,moldavia"),
    ("MX", "mexico,mexique,мексика,mexiko"),
    ("NL", "netherlands,the netherlands,pays bas,нидерланды,niederlande,paises bajos,nederland"),
    ("NO", "norway,norvege,норвегия,norwegen,noruega,norge"),
    ("PE", "peru,perou,перу"),
    ("PL", "poland,pologne,польша,polen,polonia,polska"),
    ("PT", "portugal,португалия"),
    ("RO", "romania,roumanie,румыния,rumanien,rumania"),
    ("RS", "serbia,serbie,сербия,serbien"),
    ("RU", "russia,russian federation,russie,россия,российская федерация,рф,russland,rusia"),
    ("SE", "sweden,suede,швеция,schweden,suecia,sverige"),
    ("SN", "senegal,сенегал"),
    ("TN", "tunisia,tunisie,тунис,tunesien,tunez"),
    ("TR", "turkey,turkiye,turquie,турция,turkei,turquia"),
    ("UA", "ukraine,украина,ucrania"),
    (
        "US",
        "united states,united states of america,usa,etats unis,сша,vereinigte staaten,estados unidos",
    ),
    ("UZ", "uzbekistan,ouzbekistan,узбекистан,usbekistan"),
];

/// The ISO 3166-1 alpha-2 code, upper case, for a code or a name.
pub(super) fn code(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(match text.to_ascii_uppercase().as_str() {
            "UK" => "GB".to_owned(),
            code => code.to_owned(),
        });
    }
    BY_NAME.get(&normalise(text)).map(|code| (*code).to_owned())
}

static BY_NAME: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    NAMES
        .iter()
        .flat_map(|(code, names)| names.split(',').map(|name| (normalise(name), *code)))
        .collect()
});
