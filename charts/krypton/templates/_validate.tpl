{{/* What a schema cannot check. Each sentence names the key and the way out; all are said at once. */}}
{{- define "krypton.validate" -}}
{{- /* First: the others count with them. */ -}}
{{- include "krypton.failWith" (include "krypton.problemsOfForms" . | fromYamlArray) -}}
{{- include "krypton.failWith" (concat
  (include "krypton.problemsOfUpstreamKeys" . | fromYamlArray)
  (include "krypton.problemsOfGateway" . | fromYamlArray)
  (include "krypton.problemsOfCertificates" . | fromYamlArray)
  (include "krypton.problemsOfIngress" . | fromYamlArray)) -}}
{{- end }}

{{- define "krypton.failWith" -}}
{{- with . }}{{ fail (printf "\n\n%s\n" (join "\n" .)) }}{{ end -}}
{{- end }}

{{- define "krypton.problemsOfForms" -}}
{{- $durations := dict
  "gateway.drainDelay" .Values.gateway.drainDelay
  "gateway.drainTimeout" .Values.gateway.drainTimeout
  "ingress.readTimeout" .Values.ingress.readTimeout }}
{{- range $key, $value := $durations }}
{{- if not (regexMatch "^([0-9]{1,5}(h|m|s|ms)){1,4}$" $value) }}
- {{ printf "%s: %q is no duration. Write it as 500ms, 5s, 5m or 1m30s." $key $value | quote }}
{{- end }}
{{- end }}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" }}
{{- $network := printf "^(%s(\\.%s){3}/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$" $byte $byte }}
{{- range $key := list "trustedProxies" "denyCIDRs" }}
{{- range $value := get $.Values $key | default list }}
{{- if not (regexMatch $network $value) }}
- {{ printf "%s: %q is no network. Write an address and the length of its prefix, as 10.0.0.0/8." $key $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.certificates.caBundle }}
{{- if not (contains "-----BEGIN CERTIFICATE-----" .) }}
- "certificates.caBundle: it is no PEM. Give the file that begins with -----BEGIN CERTIFICATE-----, not its base64."
{{- end }}
{{- end }}
{{- end }}

{{- define "krypton.problemsOfUpstreamKeys" -}}
{{- if (.Values.postgres | default dict).enabled }}
- "postgres.enabled: there is no database here: Agents and their status are the only store. Remove the key or set it to false."
{{- end }}
{{- if (.Values.controlPlane | default dict).databaseUrl }}
- "controlPlane.databaseUrl: there is no database here: Agents and their status are the only store. Remove the key."
{{- end }}
{{- end }}

{{- define "krypton.problemsOfGateway" -}}
{{- $gateway := .Values.gateway -}}
{{- $drain := add (include "krypton.milliseconds" $gateway.drainDelay | int64) (include "krypton.milliseconds" $gateway.drainTimeout | int64) -}}
{{- $needed := add 5 (div (add $drain 999) 1000) -}}
{{- if lt (int64 $gateway.terminationGracePeriodSeconds) $needed }}
- {{ printf "gateway.terminationGracePeriodSeconds: %d is too short for gateway.drainDelay %s and gateway.drainTimeout %s with 5 seconds to spare: calls would be cut. Set it to %d or more, or make the drain shorter." (int64 $gateway.terminationGracePeriodSeconds) $gateway.drainDelay $gateway.drainTimeout $needed | quote }}
{{- end }}
{{- with $gateway.autoscaling }}
{{- if .enabled }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
- {{ printf "gateway.autoscaling.minReplicas: %d is above gateway.autoscaling.maxReplicas %d. Make maxReplicas at least as large." (int .minReplicas) (int .maxReplicas) | quote }}
{{- end }}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics) }}
- "gateway.autoscaling: it has nothing to scale by. Set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics."
{{- end }}
{{- range $resource, $target := dict "cpu" "targetCPUUtilizationPercentage" "memory" "targetMemoryUtilizationPercentage" }}
{{- $resources := $gateway.resources | default dict }}
{{- $asked := or (get ($resources.requests | default dict) $resource) (get ($resources.limits | default dict) $resource) }}
{{- if and (get $gateway.autoscaling $target) (not $asked) }}
- {{ printf "gateway.autoscaling.%s: it is a share of gateway.resources.requests.%s, which is not set. Set that, or set this to null." $target $resource | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "krypton.problemsOfCertificates" -}}
{{- $certificates := .Values.certificates -}}
{{- if and $certificates.issuerRef (not $certificates.issuerRef.name) }}
- "certificates.issuerRef.name: an issuer without a name. Name it, or remove issuerRef to have the chart make an authority of its own."
{{- end }}
{{- if include "krypton.hasCertificate" . }}
{{- if eq $certificates.source "secret" }}
{{- if not $certificates.secretName }}
- {{ printf "certificates.secretName: certificates.source is secret, but which is not said. Name a Secret in namespace %s with tls.crt, tls.key and ca.crt." .Release.Namespace | quote }}
{{- end }}
{{- if and .Values.manager.enableWebhooks (not $certificates.caBundle) }}
- "certificates.caBundle: with certificates.source secret and manager.enableWebhooks the API server must be told which authority signed the certificate. Give its PEM, e.g. by --set-file certificates.caBundle=ca.crt."
{{- end }}
{{- end }}
{{- if and (eq $certificates.source "self-signed") .Values.discovery.plaintext }}
- "discovery.plaintext: manager.enableWebhooks with certificates.source self-signed makes a certificate, and it protects discovery too. Remove discovery.plaintext, or take certificates.source cert-manager or secret."
{{- end }}
{{- end }}
{{- end }}

{{- define "krypton.problemsOfIngress" -}}
{{- if and .Values.ingress.enabled (eq .Values.ingress.class "envoy-gateway") }}
- "ingress.class: Envoy Gateway serves no Ingress. Set ingress.enabled to false and httpRoute.enabled to true, and name your Gateway in httpRoute.parentRefs."
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- "httpRoute.parentRefs: an HTTPRoute without a Gateway serves nobody. Name it, e.g. --set httpRoute.parentRefs[0].name=my-gateway; kubectl get gateways --all-namespaces lists them."
{{- end }}
{{- if and (include "krypton.isFronted" .) (eq (include "krypton.milliseconds" .Values.ingress.readTimeout) "0") }}
- "ingress.readTimeout: 0 means something else to each ingress. Set it above the timeout of the slowest Agent, e.g. 330s."
{{- end }}
{{- end }}
