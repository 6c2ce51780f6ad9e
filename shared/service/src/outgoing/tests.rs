use std::net::TcpListener;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn link_local_and_metadata_addresses_are_refused_in_every_form() {
    let outgoing = Outgoing::default();
    for text in [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        // Mapped, compatible, 6to4, NAT64 (both prefixes, both layouts), Teredo, ISATAP.
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:100.100.100.200",
        "2002:a9fe:a9fe::1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "2001:db8::5efe:169.254.169.254",
        "2001:db8::200:5efe:169.254.169.254",
        "::ffff:0.0.0.0",
    ] {
        assert!(outgoing.check(address(text)).is_err(), "{text}");
    }
    for text in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.17.0.1",
        "100.64.0.1",
        "169.253.255.255",
        "169.255.0.0",
        "168.63.129.17",
        "8.8.8.8",
        "2001:4860:4860::8888",
        "fd00:1234::1",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert_eq!(outgoing.check(address(text)), Ok(()), "{text}");
    }
}

#[test]
fn what_the_operator_lists_is_reached_and_nothing_else() {
    let listed = ["169.254.10.0/24".parse().unwrap(), "fd00:ec2::254".parse().unwrap()];
    let outgoing = Outgoing::new(listed);
    for (text, allowed) in [
        ("169.254.10.7", true),
        ("::ffff:169.254.10.7", true),
        ("169.254.169.254", false),
        ("fd00:ec2::254", true),
        ("fd00:ec2::23", false),
    ] {
        assert_eq!(outgoing.check(address(text)).is_ok(), allowed, "{text}");
    }
    let more = outgoing.and(["169.254.169.254".parse().unwrap()]);
    assert!(more.check(address("169.254.169.254")).is_ok());
    assert!(more.check(address("169.254.10.7")).is_ok());
}

#[test]
fn networks_are_read_and_mistakes_are_told() {
    for (text, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("0.0.0.0/0", "9.9.9.9", "::1"),
        ("[fe80::]/64", "fe80::1", "fe80:0:0:1::1"),
        ("::/0", "2001:db8::1", "1.2.3.4"),
    ] {
        let network: Network = text.parse().unwrap();
        assert!(network.contains(address(inside)), "{text} {inside}");
        assert!(!network.contains(address(outside)), "{text} {outside}");
    }
    for text in ["", "10.0.0.0/33", "fe80::/129", "example.org", "10.0.0.0/x", "10.0.0/8"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn of_several_addresses_only_those_that_may_be_reached_are_kept() {
    let at = |text: &str| SocketAddr::new(address(text), 80);
    let outgoing = Outgoing::default();
    let kept = outgoing.reachable("both.example", vec![at("169.254.169.254"), at("127.0.0.1")]);
    assert_eq!(kept.unwrap(), [at("127.0.0.1")]);
    let refused = outgoing.reachable("metadata.google.internal", vec![at("169.254.169.254")]);
    let error = refused.unwrap_err();
    assert!(is_forbidden(&error));
    let told = error.to_string();
    assert!(
        told.contains("metadata.google.internal") && told.contains("169.254.169.254"),
        "{told}"
    );
    assert!(told.contains("--outgoing-allow"), "{told}");
    assert!(!is_forbidden(&outgoing.reachable("nothing.example", Vec::new()).unwrap_err()));
}

fn client(outgoing: &Outgoing) -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    outgoing.client(reqwest::Client::builder().no_proxy()).unwrap()
}

#[tokio::test]
async fn a_url_with_a_refused_address_is_not_asked() {
    let client = client(&Outgoing::default());
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://169.254.169.254./",
        "http://[fe80::1]:8080/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0:1/",
    ] {
        let error = client.get(url).send().await.unwrap_err();
        assert!(is_forbidden(&error), "{url}: {}", crate::Chain(&error));
        assert!(error.is_connect(), "{url}: nothing may have arrived");
    }
    let error = Outgoing::default().connect("169.254.169.254:80").await.unwrap_err();
    assert!(is_forbidden(&error), "{error}");
}

#[tokio::test]
async fn what_is_listed_and_what_is_local_is_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let outgoing = Outgoing::default();
    outgoing.connect(&format!("127.0.0.1:{port}")).await.unwrap();
    outgoing.connect(&format!("localhost:{port}")).await.unwrap();
    // On this system the unspecified address leads to the host itself.
    let any = Outgoing::new(["0.0.0.0".parse().unwrap()]);
    any.connect(&format!("0.0.0.0:{port}")).await.unwrap();
    assert!(is_forbidden(&outgoing.connect(&format!("0.0.0.0:{port}")).await.unwrap_err()));
}

#[tokio::test]
async fn a_redirect_leads_to_no_other_host_and_no_refused_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let n_bytes = stream.read(&mut head).await.unwrap();
            let is_second = head[..n_bytes].starts_with(b"GET /second");
            let to =
                if is_second { "http://169.254.169.254/".to_owned() } else { "/second".into() };
            let answer = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let outgoing = Outgoing::default();
    drop(client(&outgoing));
    let within = outgoing.client_within_host(reqwest::Client::builder().no_proxy()).unwrap();
    let answer = within.get(format!("http://{own}/first")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().path()), (302, "/second"));
    let none = client(&outgoing).get(format!("http://{own}/first")).send().await.unwrap();
    assert_eq!(none.url().path(), "/first");
}
