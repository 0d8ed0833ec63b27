#!/usr/bin/env bash
# Prints a kubeconfig for the ServiceAccount of rbac.yaml: `kubeconfig.sh [NAMESPACE] > qwex.kubeconfig`;
# NAMESPACE is where runs go, as in rbac.yaml.
# Needs kubectl with the rights of an admin; takes server and CA from its current context.
set -euo pipefail
namespace=${1:-qwex}
secret() { kubectl --namespace qwex-system get secret qwex-dispatcher --output "jsonpath={.data.$1}"; }
server=$(kubectl config view --minify --output 'jsonpath={.clusters[0].cluster.server}')
# The controller fills the Secret in shortly after it was made.
kubectl --namespace qwex-system wait secret/qwex-dispatcher --for=jsonpath='{.data.token}' --timeout=30s >/dev/null
cat <<YAML
apiVersion: v1
kind: Config
current-context: qwex
contexts: [{ name: qwex, context: { cluster: qwex, user: qwex-dispatcher, namespace: $namespace } }]
clusters: [{ name: qwex, cluster: { server: "$server", certificate-authority-data: $(secret 'ca\.crt') } }]
users: [{ name: qwex-dispatcher, user: { token: $(secret token | base64 --decode) } }]
YAML
