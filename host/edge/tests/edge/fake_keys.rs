//! Keys for the tests, whose secrets say what they are. Knows no control plane.

use sandmill_domain::ports::Keys;
use sandmill_domain::{Caller, Code, Fault, Scope, TenantId};

use Scope::{Admin, Deploy, Invoke};

/// The keys that there are: the secret, whose it is, and what it allows. Their ids are `key-0` and so on.
pub(crate) const HOLDERS: [(&str, Option<&str>, &[Scope]); 8] = [
    ("acme-invoke", Some("acme"), &[Invoke]),
    ("acme-deploy", Some("acme"), &[Deploy]),
    ("acme-admin", Some("acme"), &[Admin]),
    ("other-admin", Some("other"), &[Admin]),
    ("local-admin", Some("default"), &[Admin]),
    ("root-invoke", None, &[Invoke]),
    ("root-deploy", None, &[Deploy]),
    ("root-admin", None, &[Admin]),
];

/// A host with [`HOLDERS`].
pub(crate) struct FakeKeys;

impl Keys for FakeKeys {
    fn holder(&self, secret: Option<&str>) -> Result<Caller, Fault> {
        let at = HOLDERS.iter().position(|(known, _, _)| secret == Some(*known));
        let at = at.ok_or_else(|| Fault::new(Code::Unauthorized, "no such key"))?;
        let (_, tenant, scopes) = HOLDERS[at];
        let tenant = tenant.map(|name| TenantId::new(name).unwrap());
        Ok(Caller { key: format!("key-{at}").into(), tenant, scopes: scopes.to_vec(), from: None })
    }
}

/// A host without keys.
pub(crate) struct NoKeys;

impl Keys for NoKeys {
    fn holder(&self, secret: Option<&str>) -> Result<Caller, Fault> {
        assert_eq!(secret, None, "nobody looks at what is shown");
        Ok(Caller { key: "-".into(), tenant: Some(TenantId::local()), scopes: vec![Admin], from: None })
    }

    fn exist(&self) -> bool {
        false
    }
}
