//! What goes wrong at a terminal: each is said in words that lead to the mend, has its exit code, and shows no key.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rcgen::{CertificateParams, KeyPair};

use crate::harness::{Server, Workshop, example};
use crate::terminal::{Person, says, text};

/// A server of a new store, whose operator the person is.
fn serve(person: &Person, tables: &str) -> Server {
    let store = person.json("init")["store"].as_str().expect("a place").to_owned();
    let server = Server::of_store(&format!("[store]\nwork = {:?}\n{tables}", person.path("work")), &store);
    let scheme = if tables.contains("[tls]") { "https" } else { "http" };
    let (control, functions) = (server.control.port(), server.address.port());
    person.does(&format!(
        "profile set default --control {scheme}://localhost:{control} --functions {scheme}://localhost:{functions}"
    ));
    server
}

#[test]
fn folders_that_are_wrong() {
    let (person, shop) = (Person::new(), Workshop::new());
    let broken = shop.function("broken", "[model]\npath = \"model.onnx\"\nbatch_maxx = 3\n", None);
    let broken = broken.to_str().expect("UTF-8");
    // Told before anything is sent: there is no server.
    person.fails(1, &format!("deploy {broken}"), &["function.toml:3", "batch_maxx"]);
    person.fails(1, "deploy /nowhere", &["/nowhere"]);
    let secret = "[model]\npath = \"model.onnx\"\n[config]\nx = { secret_env = \"TEST\" }\n";
    let secret = shop.function("secret", secret, None);
    person.fails(1, &format!("deploy {}", secret.display()), &["function.toml:4", "give the secret itself"]);

    let _server = serve(&person, "");
    let text = shop.function("text", "[model]\npath = \"model.onnx\"\n[plugin]\npath = \"plugin.wasm\"\n", Some(b"hello"));
    person.fails(3, &format!("deploy {}", text.display()), &["422", "at the step `load`", "plugin.wasm", "nothing was changed"]);
    says(&person.does("functions"), &["no functions yet"]);
}

/// The refusal is heard although not all was sent.
#[test]
fn a_folder_that_is_too_large() {
    let person = Person::new();
    let _server = serve(&person, "[edge]\nupload_bytes_max = \"64KiB\"\n");
    let digits = example("digits");
    person.fails(3, &format!("deploy {}", digits.display()), &["413", "65536"]);
    says(&person.does("functions"), &["no functions yet"]);
}

#[test]
fn keys_that_are_wrong() {
    let person = Person::new();
    let server = serve(&person, "");
    let other = person.keep("other", &"sm_0000000000_000000".into());
    person.fails(3, &format!("whoami --key-file {other}"), &["401", "not known", "SANDMILL_KEY"]);
    let garbage = person.keep("garbage", &"sm_0000 sm_0000".into());
    person.fails(1, &format!("whoami --key-file {garbage}"), &["no key", "garbage"]);
    person.fails(1, "whoami --key-file /nowhere", &["/nowhere"]);
    person.fails(1, "keys revoke sm_0123456789_abcdef", &["a whole key"]);
    // The profile that `init` made names a tenant; another with the same key does not.
    let profiles = std::fs::read_to_string(person.profiles()).expect("read");
    let other: String = profiles.lines().filter(|line| !line.starts_with("tenant")).map(|line| format!("{line}\n")).collect();
    std::fs::write(person.profiles(), other).expect("written");
    person.fails(3, "functions", &["400", "--tenant NAME"]);
    says(&person.does("functions --tenant default"), &["no functions yet"]);
    let output = person.command("whoami").env("SANDMILL_KEY", "sm_0000000000_11").output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "the environment is over the profile");
    // Over both is the command line, here with a key from a pipe.
    let real = std::fs::read_to_string(person.profiles()).expect("read");
    let real = real.lines().find_map(|line| line.strip_prefix("key = ")).expect("a key").trim_matches('"').to_owned();
    let mut piped = person.command("whoami --key-file -");
    let mut piped =
        piped.env("SANDMILL_KEY", "sm_0000000000_11").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    piped.stdin.take().expect("a pipe").write_all(format!("{real}\n").as_bytes()).expect("written");
    let output = piped.wait_with_output().expect("it ends");
    says(&text(&output.stdout), &["an operator's"]);
    assert!(!server.log().contains(&real), "{}", server.log());
}

#[test]
fn profiles_that_are_wrong() {
    let person = Person::new();
    let _server = serve(&person, "");
    person.fails(1, "whoami --profile nobody", &["no profile `nobody`", "profile list"]);
    person.fails(1, "profile remove nobody", &["no profile `nobody`"]);
    person.fails(1, "profile set a.b --tenant acme", &["no profile's name"]);
    std::fs::set_permissions(person.profiles(), std::fs::Permissions::from_mode(0o644)).expect("set");
    person.fails(1, "whoami", &["others may read it", "644", "chmod 600"]);
    // A key that comes another way is taken all the same.
    let output = person.command("whoami").env("SANDMILL_KEY", "sm_0000000000_11").output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    std::fs::write(person.profiles(), "[default]\nkey = sm_0123\n").expect("written");
    person.fails(1, "whoami", &["profiles.toml", "line 2"]);
    // The store is made by then; the key could be saved nowhere, and so is not made.
    let other = person.path("other-store");
    person.fails(1, &format!("init --store {}", other.display()), &["profiles.toml"]);
    says(&person.does(&format!("init --no-profile --store {}", other.display())), &["sm_", "kept nowhere", "serve --store"]);
}

#[test]
fn servers_that_are_not_there() {
    let person = Person::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let silent = taken.local_addr().expect("an address");
    person.fails(4, "whoami --control http://127.0.0.1:1", &["cannot reach http://127.0.0.1:1", "refused"]);
    person.fails(4, "whoami --control http://nowhere.invalid", &["cannot reach http://nowhere.invalid"]);
    person.fails(4, &format!("whoami --timeout 1 --control http://{silent}"), &["no answer within 1 s"]);
    person.fails(1, "doctor", &["there is no store at", "sandmill init"]);
    // Function folders have no control plane.
    let server = Server::start(&[example("digits")]);
    person.fails(3, &format!("functions --control http://{}", server.control), &["404", "has no control plane"]);
    for line in [
        "whoami --control nonsense",
        "keys add",
        "keys add --scope root",
        "tenants add acme --quota disks_max=1",
        "rollback spam --to 0",
    ] {
        let output = person.types(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output.stderr));
    }
    says(&text(&person.types("--help").stdout), &["Exit codes", "SANDMILL_KEY"]);
    assert!(person.json("version")["plugins"].is_string() && person.json("profile list")["profiles"].is_array());
    says(&person.does("completions bash"), &["_sandmill", "rollback"]);
}

#[test]
fn servers_with_certificates() {
    let person = Person::new();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&key).expect("signed");
    let (files, key_file) = (person.path("tls.crt"), person.path("tls.key"));
    std::fs::write(&files, certificate.pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let pair = format!("{{ certificate = {files:?}, key = {key_file:?} }}");
    let server = serve(&person, &format!("[tls]\nlisten = {pair}\ncontrol = {pair}\n"));
    person.fails(4, "whoami", &["its certificate is not believed", "--ca FILE"]);
    says(&person.does(&format!("whoami --ca {}", files.display())), &["an operator's"]);
    person.fails(1, &format!("whoami --ca {}", key_file.display()), &["tls.key", "no certificate"]);
    person.does(&format!("profile set default --ca {}", files.display()));
    let folder = example("digits");
    person.does(&format!("deploy {} --yes", folder.display()));
    says(&person.does(&format!("invoke digits {}/sample.json", folder.display())), &["\"label\":2"]);
    let plain = format!("whoami --control http://localhost:{}", server.control.port());
    let output = person.types(&plain);
    says(&text(&output.stderr), &["400", "https://"]);
}
