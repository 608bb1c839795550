//! A key-encryption key in a PKCS#11 module: an HSM, a smart card, a cloud's module. It guarantees that the key
//! never leaves the module (one that may leave is refused), that the PIN comes from a file and stands in no message,
//! and that a lost session or login is made anew once. AES-256-GCM, done by the module.
//!
//! Slots are found by the token's label: their numbers change. Calls block: see [`crate::kek`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use assent_runtime::Ids;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::envelope::SealError;
use crate::kek::{Kek, KekError, Wrapped};
use crate::{DataKey, key_file};

const IV_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;
/// Sessions that are kept open between calls.
const IDLE_MAX: usize = 8;

/// Where the key is.
#[derive(Debug, Clone)]
pub struct Module {
    /// The module's shared library.
    pub path: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
    /// The file with the PIN of the token's user, mode 0600.
    pub pin_file: PathBuf,
}

/// A key in a module.
pub struct ModuleKek {
    module: Module,
    id: String,
    ids: Arc<dyn Ids>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: Option<Opened>,
    /// The login that was refused, and of when the PIN's file was: tokens lock themselves after a few tries, so
    /// none is made with the same PIN.
    refused: Option<(String, Option<SystemTime>)>,
}

/// The module as it was reached: sessions share its login.
struct Opened {
    context: Pkcs11,
    slot: Slot,
    key: ObjectHandle,
    /// Held for the login, which ends with the last session.
    _first: Session,
    idle: Vec<Session>,
}

/// A session in use, with the key's handle.
struct Borrowed {
    session: Session,
    key: ObjectHandle,
}

impl ModuleKek {
    /// Reaches the module, logs in and finds the key.
    ///
    /// # Errors
    /// [`KekError`], also where the key may leave the module.
    pub fn open(module: Module, ids: Arc<dyn Ids>) -> Result<Self, KekError> {
        let id = format!("pkcs11:{}", module.key);
        let opened = Some(module.reach()?);
        Ok(Self { module, id, ids, state: Mutex::new(State { opened, refused: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a session; the module is reached anew where that was lost.
    fn borrow(&self) -> Result<Borrowed, KekError> {
        let mut state = self.state();
        let reached = match state.opened.take() {
            Some(reached) => reached,
            None => self.reach_anew(&mut state)?,
        };
        let reached = state.opened.insert(reached);
        let key = reached.key;
        if let Some(session) = reached.idle.pop() {
            return Ok(Borrowed { session, key });
        }
        let session = reached.context.open_ro_session(reached.slot).map_err(call)?;
        Ok(Borrowed { session, key })
    }

    fn reach_anew(&self, state: &mut State) -> Result<Opened, KekError> {
        let pin_of = std::fs::metadata(&self.module.pin_file).and_then(|it| it.modified()).ok();
        if let Some((cause, of)) = &state.refused
            && *of == pin_of
        {
            let (token, cause) = (self.module.token.clone(), cause.clone());
            return Err(KekError::Login { token, cause });
        }
        state.refused = None;
        let reached = self.module.reach();
        if let Err(KekError::Login { cause, .. }) = &reached {
            state.refused = Some((cause.clone(), pin_of));
        }
        reached
    }

    fn give_back(&self, session: Session) {
        let mut state = self.state();
        if let Some(reached) = state.opened.as_mut().filter(|it| it.idle.len() < IDLE_MAX) {
            reached.idle.push(session);
        }
    }

    /// Forgets sessions and login: what comes next makes them anew.
    fn lose(&self) {
        self.state().opened = None;
    }

    /// Does it in a session, and once more in a new one where the first was lost.
    fn call<T>(
        &self,
        work: impl Fn(&Session, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, KekError> {
        let first = match self.borrow() {
            Ok(Borrowed { session, key }) => match work(&session, key) {
                Ok(done) => {
                    self.give_back(session);
                    return Ok(done);
                }
                Err(error) => call(error),
            },
            Err(error @ KekError::Call(_)) => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(error = %first, "the wrapping key's module is reached anew");
        self.lose();
        let Borrowed { session, key } = self.borrow()?;
        let done = work(&session, key).map_err(call)?;
        self.give_back(session);
        Ok(done)
    }

    fn encrypt(
        &self,
        session: &Session,
        key: ObjectHandle,
        plain: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut iv = [0; IV_BYTES];
        self.ids.fill(&mut iv);
        let sealed = {
            let params = GcmParams::new(&mut iv, aad, TAG_BITS.into())?;
            session.encrypt(&Mechanism::AesGcm(params), key, plain)?
        };
        // Read after the call: some modules draw it themselves.
        Ok([&iv[..], &sealed].concat())
    }
}

impl Kek for ModuleKek {
    fn id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, keys: &[(&DataKey, &[u8])]) -> Result<Vec<Vec<u8>>, KekError> {
        self.call(|session, handle| {
            keys.iter().map(|(key, aad)| self.encrypt(session, handle, key.expose(), aad)).collect()
        })
    }

    fn unwrap(&self, keys: &[Wrapped<'_>]) -> Result<Vec<Result<DataKey, SealError>>, KekError> {
        let at_once = self.call(|session, handle| {
            let each = keys.iter().map(|wrapped| decrypt(session, handle, wrapped));
            each.collect::<Result<Vec<_>, Error>>()
        });
        match at_once {
            Ok(opened) => return Ok(opened),
            // One of them may be another key's: modules say that in many ways. The others open.
            Err(KekError::Call(_)) => {}
            Err(error) => return Err(error),
        }
        self.look()?;
        let alone = |wrapped| match self.call(|session, handle| decrypt(session, handle, wrapped)) {
            // The module works, and doesn't open this.
            Err(KekError::Call(_)) => self.look().map(|()| Err(SealError)),
            opened => opened,
        };
        keys.iter().map(alone).collect()
    }

    fn look(&self) -> Result<(), KekError> {
        const PLAIN: [u8; 32] = [0; 32];
        let opens = self.call(|session, key| {
            let sealed = self.encrypt(session, key, &PLAIN, b"look")?;
            decrypt(session, key, &(sealed.as_slice(), b"look".as_slice()))
        })?;
        match opens {
            Ok(key) if *key.expose() == PLAIN => Ok(()),
            _ => Err(KekError::Call("it doesn't open what it sealed".to_owned())),
        }
    }
}

fn decrypt(
    session: &Session,
    key: ObjectHandle,
    (wrapped, aad): &Wrapped<'_>,
) -> Result<Result<DataKey, SealError>, Error> {
    let Some((iv, sealed)) = wrapped.split_first_chunk::<IV_BYTES>() else {
        return Ok(Err(SealError));
    };
    let mut iv = *iv;
    let params = GcmParams::new(&mut iv, aad, TAG_BITS.into())?;
    let plain = match session.decrypt(&Mechanism::AesGcm(params), key, sealed) {
        Ok(plain) => Zeroizing::new(plain),
        Err(Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange, _)) => {
            return Ok(Err(SealError));
        }
        Err(error) => return Err(error),
    };
    Ok(plain.as_slice().try_into().map(DataKey::from_bytes).map_err(|_| SealError))
}

impl Module {
    fn reach(&self) -> Result<Opened, KekError> {
        let (context, slot) = self.slot()?;
        let first = context.open_ro_session(slot).map_err(call)?;
        self.login(&first)?;
        let key = self.find(&first)?;
        Ok(Opened { context, slot, key, _first: first, idle: Vec::new() })
    }

    /// The slot that holds the token.
    fn slot(&self) -> Result<(Pkcs11, Slot), KekError> {
        let broken =
            |cause: Error| KekError::Module { path: self.path.clone(), cause: said(&cause) };
        let context = Pkcs11::new(&self.path).map_err(broken)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another key of this process is in the same module.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(broken(error)),
        }
        let mut there = Vec::new();
        for slot in context.get_slots_with_token().map_err(broken)? {
            let Ok(token) = context.get_token_info(slot) else { continue };
            if token.token_initialized() && token.label().trim_end() == self.token {
                return Ok((context, slot));
            }
            if token.token_initialized() {
                there.push(format!("{:?}", token.label().trim_end()));
            }
        }
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Err(KekError::Token { token: self.token.clone(), there })
    }

    fn login(&self, session: &Session) -> Result<(), KekError> {
        let pin = key_file::read(&self.pin_file)?;
        let pin: AuthPin = pin.trim_end_matches(['\r', '\n']).to_owned().into();
        match session.login(UserType::User, Some(&pin)) {
            // The login is the token's: another session of this process has it.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(KekError::Login { token: self.token.clone(), cause: said(&error) }),
        }
    }

    /// The one key of that label, which may encrypt and decrypt, and may not leave.
    fn find(&self, session: &Session) -> Result<ObjectHandle, KekError> {
        let template =
            [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(self.key.clone().into())];
        let found = session.find_objects(&template).map_err(call)?;
        let [key] = found[..] else {
            let cause = if found.is_empty() { "it isn't there" } else { "there are several" };
            return Err(self.wrong(cause));
        };
        let asked = [
            AttributeType::KeyType,
            AttributeType::ValueLen,
            AttributeType::Extractable,
            AttributeType::Sensitive,
        ];
        for attribute in session.get_attributes(key, &asked).map_err(call)? {
            let cause = match attribute {
                Attribute::KeyType(KeyType::AES) => continue,
                Attribute::KeyType(_) => "it is no AES key",
                Attribute::ValueLen(length) if u64::from(length) == KEY_BYTES => continue,
                Attribute::ValueLen(_) => "it has no 256 bits",
                Attribute::Extractable(false) | Attribute::Sensitive(true) => continue,
                Attribute::Extractable(true) => {
                    "it may leave the module (CKA_EXTRACTABLE): make one that may not"
                }
                Attribute::Sensitive(false) => {
                    "it can be read in the clear (not CKA_SENSITIVE): make one that can't"
                }
                _ => continue,
            };
            return Err(self.wrong(cause));
        }
        Ok(key)
    }

    fn wrong(&self, cause: &str) -> KekError {
        let (key, token) = (self.key.clone(), self.token.clone());
        KekError::Key { key, token, cause: cause.to_owned() }
    }

    /// Makes the key in its token: AES-256 that never leaves.
    ///
    /// # Errors
    /// [`KekError`], also where a key of that label is there.
    pub fn generate(&self) -> Result<(), KekError> {
        let (context, slot) = self.slot()?;
        let session = context.open_rw_session(slot).map_err(call)?;
        self.login(&session)?;
        let label = Attribute::Label(self.key.clone().into());
        if !session.find_objects(std::slice::from_ref(&label)).map_err(call)?.is_empty() {
            return Err(self.wrong("there is one already, and it stays"));
        }
        let template = [
            label,
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        session.generate_key(&Mechanism::AesKeyGen, &template).map_err(call)?;
        Ok(())
    }
}

fn call(error: Error) -> KekError {
    KekError::Call(said(&error))
}

/// The module's word, without what a PIN or a key could stand in.
fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function}: {code:?}"),
        other => other.to_string(),
    }
}
