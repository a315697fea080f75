//! The manifests for Kubernetes: what an API server does not see before it is too late.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The base, the job that founds the cluster, and the read replicas.
const PARTS: &[&str] = &["", "init", "read"];

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn one(path: &Path) -> Value {
    let mut documents = documents(path);
    assert_eq!(documents.len(), 1, "{}", path.display());
    documents.remove(0)
}

/// All objects of a part.
fn objects(part: &str) -> Vec<Value> {
    let directory = base().join(part);
    let kustomization = one(&directory.join("kustomization.yaml"));
    let resources = texts(&kustomization["resources"]);
    resources
        .iter()
        .flat_map(|file| documents(&directory.join(file)))
        .collect()
}

fn all() -> Vec<Value> {
    PARTS.iter().flat_map(|part| objects(part)).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    let found = found.into_iter().find(|o| o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn texts(value: &Value) -> Vec<String> {
    let text = |value: &&Value| value.as_str().unwrap().to_owned();
    list(value).iter().map(text).collect()
}

/// Whether labels have all that a selector asks for.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

/// The servers, each with its configuration.
fn servers() -> Vec<(Value, Value)> {
    [("", "nexus-server"), ("read", "nexus-read")]
        .into_iter()
        .map(|(part, name)| {
            let set = named(&objects(part), "StatefulSet", name).clone();
            (set, one(&base().join(part).join("nexus.yaml")))
        })
        .collect()
}

#[test]
fn every_file_belongs_to_a_part_and_every_object_has_a_name() {
    for part in PARTS {
        let directory = base().join(part);
        let kustomization = one(&directory.join("kustomization.yaml"));
        let mut known: BTreeSet<String> = texts(&kustomization["resources"]).into_iter().collect();
        for map in list(&kustomization["configMapGenerator"]) {
            known.extend(texts(&map["files"]));
        }
        known.insert("kustomization.yaml".to_owned());
        let there: BTreeSet<String> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        assert_eq!(known, there, "{}", directory.display());
        assert_eq!(kustomization["namespace"], "nexus");
    }
    let mut names = BTreeSet::new();
    for object in all() {
        for field in ["apiVersion", "kind"] {
            assert!(object[field].is_string(), "{object}");
        }
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(
            names.insert((object["kind"].to_string(), name.to_owned())),
            "{name} is there twice"
        );
    }
}

#[test]
fn selectors_meet_the_pods_that_they_are_for() {
    let objects = all();
    let core =
        &named(&objects, "StatefulSet", "nexus-server")["spec"]["template"]["metadata"]["labels"];
    let read =
        &named(&objects, "StatefulSet", "nexus-read")["spec"]["template"]["metadata"]["labels"];
    let job =
        &named(&objects, "Job", "nexus-cluster-init")["spec"]["template"]["metadata"]["labels"];
    for set in of_kind(&objects, "StatefulSet") {
        let spec = &set["spec"];
        let own = &spec["template"]["metadata"]["labels"];
        assert!(selects(&spec["selector"]["matchLabels"], own));
        let others = if own == core { read } else { core };
        assert!(!selects(&spec["selector"]["matchLabels"], others));
        let peers = named(&objects, "Service", spec["serviceName"].as_str().unwrap());
        assert_eq!(peers["spec"]["clusterIP"], "None");
        assert_eq!(peers["spec"]["publishNotReadyAddresses"], true);
        assert!(selects(&peers["spec"]["selector"], own));
        assert!(!selects(&peers["spec"]["selector"], job));
    }
    for (service, takes_writes) in [("nexus", true), ("nexus-read", false)] {
        let selector = &named(&objects, "Service", service)["spec"]["selector"];
        assert_eq!(selects(selector, core), takes_writes, "{service}");
        assert_eq!(selects(selector, read), !takes_writes, "{service}");
    }
    for (budget, labels) in [("nexus-server", core), ("nexus-read", read)] {
        let spec = &named(&objects, "PodDisruptionBudget", budget)["spec"];
        assert!(selects(&spec["selector"]["matchLabels"], labels));
        assert_eq!(spec["maxUnavailable"], 1);
        assert!(!(selects(&spec["selector"]["matchLabels"], core) && labels == read));
    }
    let policy = &named(&objects, "NetworkPolicy", "nexus-server")["spec"];
    let protected = &policy["podSelector"]["matchLabels"];
    assert!(selects(protected, core) && selects(protected, read) && !selects(protected, job));
}

#[test]
fn every_port_that_is_named_is_one_of_the_servers() {
    let objects = all();
    for set in of_kind(&objects, "StatefulSet") {
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let ports: BTreeSet<(String, String)> = list(&container["ports"])
            .iter()
            .map(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                (
                    port["name"].as_str().unwrap().to_owned(),
                    protocol.to_owned(),
                )
            })
            .collect();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let port = container[probe]["httpGet"]["port"].as_str().unwrap();
            assert!(
                ports.contains(&(port.to_owned(), "TCP".to_owned())),
                "{probe}"
            );
        }
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/ready");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health");
        let mut used: Vec<(&Value, &Value)> = Vec::new();
        for service in of_kind(&objects, "Service") {
            let of_service = list(&service["spec"]["ports"]).into_iter();
            used.extend(of_service.map(|port| (&port["targetPort"], &port["protocol"])));
        }
        let policy = &named(&objects, "NetworkPolicy", "nexus-server")["spec"];
        for rule in list(&policy["ingress"])
            .into_iter()
            .chain(list(&policy["egress"]))
        {
            let of_rule = list(&rule["ports"]).into_iter();
            used.extend(of_rule.map(|port| (&port["port"], &port["protocol"])));
        }
        for (port, protocol) in used {
            // The name service is somebody else's.
            if *port == 53 {
                continue;
            }
            let wanted = (
                port.as_str().unwrap().to_owned(),
                protocol.as_str().unwrap_or("TCP").to_owned(),
            );
            assert!(ports.contains(&wanted), "{wanted:?}");
        }
    }
}

#[test]
fn pods_and_configuration_agree() {
    let objects = all();
    for (set, config) in servers() {
        let pod = &set["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let name = set["metadata"]["name"].as_str().unwrap();
        let port = |name: &str| {
            let ports = list(&container["ports"]);
            let port = ports.into_iter().find(|port| port["name"] == name);
            port.unwrap()["containerPort"].as_u64().unwrap()
        };
        assert_eq!(config["server"]["http_port"], port("http"));
        assert_eq!(config["server"]["grpc_port"], port("grpc"));
        assert_eq!(config["server"]["metrics_port"], port("metrics"));
        assert_eq!(config["p2p"]["listen_port"], port("p2p"));
        assert_eq!(config["p2p"]["listen_port"], port("p2p-quic"));
        let scraped = &set["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
        assert_eq!(*scraped, port("metrics").to_string().as_str());

        let service = set["spec"]["serviceName"].as_str().unwrap();
        let domain = format!("{service}.nexus.svc.cluster.local");
        let port = port("p2p");
        assert_eq!(
            texts(&config["p2p"]["bootstrap"]),
            [format!("/dns/{domain}/tcp/{port}")]
        );
        assert_eq!(
            texts(&config["p2p"]["advertise"]),
            [format!("/dns/POD_NAME.{domain}/tcp/{port}")]
        );
        assert_eq!(config["node"]["id"], "POD_NAME");
        assert_eq!(
            config["server"]["advertise_host"],
            format!("POD_NAME.{domain}")
        );

        let stop = seconds(config["graceful_shutdown"]["timeout"].as_str().unwrap());
        let before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            .as_u64()
            .unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(
            grace > stop + before,
            "{name}: {grace} s for {stop} s and {before} s"
        );

        let mounts = list(&container["volumeMounts"]);
        let mount = |name: &str| {
            let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
            mount["mountPath"].as_str().unwrap().to_owned()
        };
        let data = config["storage"]["path"].as_str().unwrap();
        assert!(data.starts_with(&format!("{}/", mount("data"))), "{data}");
        let key = config["p2p"]["cluster_key_file"].as_str().unwrap();
        assert!(
            key.starts_with(&format!("{}/", mount("cluster-key"))),
            "{key}"
        );
        let volumes = list(&pod["volumes"]);
        let secret = volumes
            .iter()
            .find(|volume| volume["name"] == "cluster-key");
        let mode = &secret.unwrap()["secret"]["defaultMode"];
        assert_eq!(*mode, 0o440, "others must not read the key");
        assert!(
            pod["securityContext"]["fsGroup"].is_u64(),
            "the group reads it"
        );
        let arguments = texts(&container["args"]).join(" ");
        assert_eq!(
            arguments,
            format!("--config {}/nexus.yaml", mount("config"))
        );
        let script = &pod["initContainers"][0]["args"][0];
        assert!(
            script
                .as_str()
                .unwrap()
                .contains("sed \"s/POD_NAME/$POD_NAME/g\"")
        );
        let map = volumes
            .iter()
            .find(|volume| volume["name"] == "template")
            .unwrap();
        let part = if name == "nexus-read" { "read" } else { "" };
        let generator =
            &one(&base().join(part).join("kustomization.yaml"))["configMapGenerator"][0];
        assert_eq!(map["configMap"]["name"], generator["name"]);
    }
    let roles: Vec<Value> = servers()
        .iter()
        .map(|(_, c)| c["node"]["role"].clone())
        .collect();
    assert_eq!(roles, ["core", "read"]);

    // The job asks the first pod, and all others before.
    let set = named(&objects, "StatefulSet", "nexus-server");
    let replicas = set["spec"]["replicas"].as_u64().unwrap();
    assert_eq!(
        replicas % 2,
        1,
        "an even number bears no more losses than one less"
    );
    let job = named(&objects, "Job", "nexus-cluster-init");
    let arguments = texts(&job["spec"]["template"]["spec"]["containers"][0]["args"]);
    let asked = |prefix: &str| -> Vec<String> {
        let found = arguments.iter().filter_map(|a| a.strip_prefix(prefix));
        found.map(ToOwned::to_owned).collect()
    };
    let url =
        |pod: u64| format!("http://nexus-server-{pod}.nexus-peers.nexus.svc.cluster.local:9000");
    assert_eq!(asked("--server="), [url(0)]);
    assert_eq!(
        asked("--others="),
        (1..replicas).map(url).collect::<Vec<_>>()
    );
}

#[test]
fn no_container_has_more_rights_than_the_namespace_allows() {
    let objects = all();
    let namespace = named(&objects, "Namespace", "nexus");
    let level = "pod-security.kubernetes.io/enforce";
    assert_eq!(namespace["metadata"]["labels"][level], "restricted");
    let pods = objects
        .iter()
        .map(|object| &object["spec"]["template"]["spec"]);
    let pods: Vec<&Value> = pods.filter(|pod| pod.is_object()).collect();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        for container in list(&pod["initContainers"])
            .into_iter()
            .chain(list(&pod["containers"]))
        {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
            assert!(container["resources"]["limits"]["memory"].is_string());
            assert_eq!(container["image"], "nexus");
        }
    }
}
