//! The rules that qwex brings. Few, and only what is nearly always a mistake: each of them warns.

use super::pattern::Pattern;
use super::{Action, Language, Rule};

/// A rule of qwex.
pub struct Builtin {
    pub name: &'static str,
    language: Language,
    /// In small letters: every line that the pattern matches has one of them.
    words: &'static [&'static str],
    pattern: &'static str,
    message: &'static str,
    secret: bool,
}

impl Builtin {
    pub fn rule(&self) -> Rule {
        Rule {
            name: self.name.to_owned(),
            pattern: Pattern::builtin(self.pattern, self.words),
            language: self.language,
            action: Action::Warn,
            message: self.message.to_owned(),
            secret: self.secret,
            place: None,
        }
    }
}

pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|rule| rule.name == name)
}

pub const BUILTIN: &[Builtin] = &[
    Builtin {
        name: "download-into-shell",
        language: Language::Any,
        words: &["curl", "wget"],
        pattern: r#"(?x)
            \b(?:curl|wget)\b [^;\n]* \|\s* (?:sudo\s+(?:-\S+\s+)*)? (?:\S*/)? (?:env\s+)? (?:ba|z|da|k)?sh\b
            | \b(?:curl|wget)\b [^;\n]* \|\s* (?:sudo\s+(?:-\S+\s+)*)? (?:\S*/)? (?:python[0-9.]*|perl|ruby|node)\b
            | (?:\b(?:ba|z|da|k)?sh\b (?:\s+-\S+)* | \beval | \bsource | (?:^|\s)\.) \s+ ["']? (?:<\(|\$\(|`) \s* (?:curl|wget)\b"#,
        message: "what is downloaded is executed unseen: store it, check its hash, then execute it",
        secret: false,
    },
    Builtin {
        name: "remove-root",
        language: Language::Shell,
        words: &["rm"],
        pattern: r#"(?x)
            \brm\s+ (?:-{1,2}[\w-]+\s+)* (?:-[A-Za-z]*[rR][A-Za-z]* | --recursive) \s+ (?:[^\s;&|]+\s+)*
              (?: ["']?(?:/|~|\$HOME|\$\{HOME\})["']?/?\*?["']? ) (?:[\s;&|)"'`]|$)
            | \brm\s [^;\n]* --no-preserve-root"#,
        message: "it removes everything that the user may remove: name the directory that is meant",
        secret: false,
    },
    Builtin {
        name: "raw-disk",
        language: Language::Shell,
        words: &["/dev/"],
        pattern: r"\bdd\b[^;\n]*\bof=/dev/(?:sd|hd|vd|xvd|nvme|mmcblk)|\bmkfs(?:\.\w+)?\s+(?:-\S+\s+)*/dev/",
        message: "it overwrites a disk",
        secret: false,
    },
    Builtin {
        name: "tls-unverified-shell",
        language: Language::Shell,
        words: &[
            "curl",
            "--no-check-certificate",
            "git_ssl_no_verify",
            "sslverify",
            "node_tls_reject_unauthorized",
        ],
        pattern: r#"(?x)
            \bcurl\b (?:[^|;&\n]*\s)? (?:-[A-Za-z]*k[A-Za-z]*|--insecure) (?:[\s"')]|$)
            | \bwget\b [^|;&\n]* --no-check-certificate
            | \bGIT_SSL_NO_VERIFY=(?:1|true)\b | \bhttp\.sslVerify[=\s]+["']?false\b
            | \bNODE_TLS_REJECT_UNAUTHORIZED=["']?0"#,
        message: "whoever sits on the way can answer instead: install the server's CA certificate",
        secret: false,
    },
    Builtin {
        name: "tls-unverified-python",
        language: Language::Python,
        words: &[
            "verify",
            "_create_unverified_context",
            "cert_none",
            "check_hostname",
        ],
        pattern: r"\bverify\s*=\s*False\b|\b_create_unverified_context\b|\bCERT_NONE\b|\bcheck_hostname\s*=\s*False\b",
        message: "whoever sits on the way can answer instead: give the path of the server's CA certificate",
        secret: false,
    },
    Builtin {
        name: "world-writable",
        language: Language::Any,
        words: &["chmod"],
        pattern: r"\bchmod\b\s*\(?[^;\n]*\b(?:0?o?777|a[+=]rwx|ugo[+=]rwx)\b",
        message: "everybody on the machine may change it: give the rights to those who need them",
        secret: false,
    },
    Builtin {
        name: "aws-key",
        language: Language::Any,
        words: &["akia", "asia", "aws_secret_access_key"],
        pattern: r#"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|(?i:aws_secret_access_key)["']?\s*[=:]\s*["']?[A-Za-z0-9/+]{40}"#,
        message: "a key of AWS in a file is everybody's who reads it: revoke it, and use --secret",
        secret: true,
    },
    Builtin {
        name: "access-token",
        language: Language::Any,
        words: &[
            "ghp_",
            "gho_",
            "ghu_",
            "ghs_",
            "ghr_",
            "github_pat_",
            "glpat-",
            "hf_",
            "xox",
            "qwx_",
        ],
        pattern: r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{34,}|xox[abprs]-[A-Za-z0-9-]{20,}|qwx_[A-Za-z0-9_]{20,})",
        message: "a token in a file is everybody's who reads it: revoke it, and use --secret",
        secret: true,
    },
    Builtin {
        name: "private-key",
        language: Language::Any,
        words: &["private key-----"],
        pattern: r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
        message: "a private key in a file is everybody's who reads it: make a new one, and use --secret",
        secret: true,
    },
];
