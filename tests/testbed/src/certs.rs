//! The keys of one test cluster: an authority, the servers' certificates, users with groups, and the key that signs
//! service-account tokens. All of it is thrown away with the cluster and trusted by nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its key, both PEM, and the common name in it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    pub cert: String,
    pub key: String,
}

impl Identity {
    /// Writes `<name>.crt` and `<name>.key` into `dir`.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        fs::write(dir.join(format!("{name}.crt")), &self.cert)?;
        Ok(fs::write(dir.join(format!("{name}.key")), &self.key)?)
    }
}

/// Signs for one cluster.
pub struct Authority {
    name: String,
    cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one; `name` shows in errors of clients that do not trust it.
    ///
    /// # Errors
    /// The crypto library failed to make a key.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let cert = Self::params(name)?.self_signed(&key)?.pem();
        Ok(Self {
            name: name.to_owned(),
            cert,
            issuer: Issuer::new(Self::params(name)?, key),
        })
    }

    /// The one whose files [`Authority::write`] left in `dir`: how a second process mints users for a running cluster.
    ///
    /// # Errors
    /// The files are not there.
    pub fn open(dir: &Path) -> Result<Self> {
        let read =
            |name: &str| fs::read_to_string(dir.join(name)).with_context(|| format!("failed to read {name}"));
        let key = KeyPair::from_pem(&read("ca.key")?)?;
        let name = read("ca.name")?;
        let issuer = Issuer::new(Self::params(&name)?, key);
        Ok(Self {
            name,
            cert: read("ca.crt")?,
            issuer,
        })
    }

    fn params(name: &str) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::write(dir.join("ca.name"), &self.name)?;
        let key = self.issuer.key().serialize_pem();
        Identity {
            name: self.name.clone(),
            cert: self.cert.clone(),
            key,
        }
        .write(dir, "ca")
    }

    /// PEM of the authority's certificate.
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// A server that answers to these names and addresses.
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let params = CertificateParams::new(names)?;
        self.sign(params, &common_name, &[], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A user as Kubernetes reads it from a certificate: the common name, and one organization per group.
    ///
    /// # Errors
    /// A name cannot stand in a certificate, or there are more than two groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let params = CertificateParams::new(Vec::new())?;
        self.sign(params, user, groups, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        organizations: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.distinguished_name.push(DnType::CommonName, common_name);
        // A distinguished name here holds one value per kind; the same kind by its number counts as another.
        let kinds = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        ensure!(
            organizations.len() <= kinds.len(),
            "a minted user has at most {} groups",
            kinds.len()
        );
        for (kind, organization) in kinds.into_iter().zip(organizations) {
            params.distinguished_name.push(kind, *organization);
        }
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            name: common_name.to_owned(),
            cert: cert.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// PEM of a new key that signs service-account tokens, private and public.
///
/// # Errors
/// The crypto library failed to make a key.
pub fn service_account_key() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
