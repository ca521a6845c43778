//! Keys: made here, known by the digests that the catalog has of them, and told from one another at every request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arc_swap::ArcSwap;
use sandmill_catalog::Digest;
use sandmill_catalog::store::{Key, Snapshot};
use sandmill_domain::control::NewKey;
use sandmill_domain::ports::Keys;
use sandmill_domain::{Caller, Code, Fault, Label, Scope, TenantId};
use subtle::ConstantTimeEq;

/// Begins every secret, so that one that lies about is known for what it is.
const PREFIX: &str = "sm";
/// Of the key's own id, and of what nobody can guess.
const ID_BYTES: usize = 5;
const SECRET_BYTES: usize = 24;
/// Whoever asks where there are no keys.
const ANYBODY: &str = "anybody";

/// All keys, as the catalog last had them.
#[derive(Default)]
pub(crate) struct KeyRing(ArcSwap<Ring>);

#[derive(Default)]
struct Ring {
    /// None before the catalog was read.
    keys: Option<HashMap<String, Vec<Holder>>>,
    /// Whether there were any: then nobody comes in without one, though none is left.
    closed: bool,
}

struct Holder {
    tenant: Option<TenantId>,
    key: Key,
    id: Arc<str>,
}

impl KeyRing {
    /// That of a host which knows no keys.
    pub(crate) fn empty() -> Self {
        Self(ArcSwap::from_pointee(Ring { keys: Some(HashMap::new()), closed: false }))
    }

    /// From now on these are the keys.
    pub(crate) fn set(&self, snapshot: &Snapshot) {
        let operators = snapshot.system.state.keys().values().map(|key| (None, key));
        let tenants = snapshot
            .tenants
            .iter()
            .flat_map(|(tenant, head)| head.state.keys().values().map(move |key| (Some(tenant.clone()), key)));
        let mut keys: HashMap<String, Vec<Holder>> = HashMap::new();
        for (tenant, key) in operators.chain(tenants) {
            let holder = Holder { tenant, key: key.clone(), id: key.id.as_str().into() };
            keys.entry(key.id.as_str().to_owned()).or_default().push(holder);
        }
        let closed = self.0.load().closed || !keys.is_empty();
        self.0.store(Arc::new(Ring { keys: Some(keys), closed }));
    }

    /// Whether there is no key: then whoever reaches this host is everybody's one tenant.
    pub(crate) fn is_empty(&self) -> bool {
        let ring = self.0.load();
        !ring.closed && ring.keys.as_ref().is_some_and(HashMap::is_empty)
    }
}

impl Keys for KeyRing {
    fn holder(&self, secret: Option<&str>) -> Result<Caller, Fault> {
        let ring = self.0.load();
        let Some(keys) = &ring.keys else { return Err(Fault::new(Code::NotReady, "the keys are still being read")) };
        let Some(secret) = secret else {
            if keys.is_empty() && !ring.closed {
                return Ok(anybody());
            }
            return Err(Fault::new(Code::Unauthorized, "a key is needed: send it as `Authorization: Bearer sm_…`"));
        };
        let unknown = || Fault::new(Code::Unauthorized, "this key is not known, or not any more");
        let id = id_of(secret).ok_or_else(unknown)?;
        let digest = Digest::of(secret.as_bytes());
        let holders = keys.get(id).map(Vec::as_slice).unwrap_or_default();
        // All are compared, however early one is found.
        let found =
            holders.iter().fold(None, |found, holder| match digest.as_bytes().ct_eq(holder.key.sha256.as_bytes()).into() {
                true => Some(holder),
                false => found,
            });
        let holder = found.filter(|holder| holder.key.expires_at_ms.is_none_or(|end| now_ms() < end)).ok_or_else(unknown)?;
        let scopes = holder.key.scopes.iter().copied().collect();
        Ok(Caller { key: Arc::clone(&holder.id), tenant: holder.tenant.clone(), scopes, from: None })
    }

    fn exist(&self) -> bool {
        !self.is_empty()
    }
}

/// Everybody's own tenant where there are no keys.
fn anybody() -> Caller {
    Caller { key: ANYBODY.into(), tenant: Some(TenantId::local()), scopes: vec![Scope::Admin], from: None }
}

/// A new key, and what its holder shows.
pub(crate) fn make(wanted: NewKey) -> (Key, String) {
    let id = random::<ID_BYTES>();
    let secret = format!("{PREFIX}_{id}_{}", random::<SECRET_BYTES>());
    let key = Key {
        id: Label::new(id).expect("invariant: hexadecimal digits are a label"),
        scopes: wanted.scopes.into_iter().collect(),
        sha256: Digest::of(secret.as_bytes()),
        label: wanted.label,
        expires_at_ms: wanted.expires_in_seconds.map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000))),
    };
    (key, secret)
}

/// What may be shown of a secret.
pub(crate) fn id_of(secret: &str) -> Option<&str> {
    let (prefix, rest) = secret.split_once('_')?;
    let (id, _secret) = rest.split_once('_')?;
    (prefix == PREFIX && id.len() == 2 * ID_BYTES).then_some(id)
}

fn random<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("invariant: the system has randomness once a process runs");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_had_keys_opens_to_nobody_when_the_last_is_gone() {
        let ring = KeyRing::default();
        assert!(ring.holder(None).is_err(), "the catalog was not read yet");
        ring.set(&Snapshot::default());
        assert!(ring.is_empty() && ring.holder(None).is_ok_and(|caller| caller.tenant == Some(TenantId::local())));
        let (key, secret) = make(NewKey { scopes: vec![Scope::Admin], label: String::new(), expires_in_seconds: None });
        let holder = Holder { tenant: None, id: key.id.as_str().into(), key };
        let keys = HashMap::from([(holder.id.to_string(), vec![holder])]);
        ring.0.store(Arc::new(Ring { keys: Some(keys), closed: true }));
        assert!(ring.holder(Some(&secret)).is_ok() && ring.holder(None).is_err());
        ring.set(&Snapshot::default());
        assert!(!ring.is_empty() && ring.holder(Some(&secret)).is_err());
        let refused = ring.holder(None).expect_err("there were keys");
        assert_eq!(refused.code, Code::Unauthorized);
    }
}
