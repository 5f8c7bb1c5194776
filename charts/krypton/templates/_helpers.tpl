{{/* Names. */}}
{{- define "krypton.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Cut so that the longest name made of it, NAME-controller-metrics, is a DNS label. */}}
{{- define "krypton.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 44 | trimSuffix "-" -}}
{{- end }}

{{/* The API server and the gateways call by these; the certificate is for them. */}}
{{- define "krypton.discoveryHost" -}}
{{- printf "%s-controller.%s.svc" (include "krypton.fullname" .) .Release.Namespace -}}
{{- end }}
{{- define "krypton.webhooksHost" -}}
{{- printf "%s-webhooks.%s.svc" (include "krypton.fullname" .) .Release.Namespace -}}
{{- end }}

{{/* Labels: (list CONTEXT COMPONENT ... LABELS), where COMPONENT may be "" and LABELS, the fifth, be left out. Ours win. */}}
{{- define "krypton.labels" -}}
{{- $context := index . 0 -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" $context.Chart.AppVersion
  "app.kubernetes.io/managed-by" $context.Release.Service -}}
{{- $more := dict -}}
{{- if gt (len .) 4 }}{{ $more = index . 4 | default dict }}{{ end -}}
{{- toYaml (merge $ours (include "krypton.selectorLabels" . | fromYaml) $more ($context.Values.commonLabels | default dict)) -}}
{{- end }}

{{/* Those of Krypton in Go: a Deployment's selector cannot change, so this is what lets a release move from there. */}}
{{- define "krypton.selectorLabels" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ include "krypton.name" $context | quote }}
app.kubernetes.io/instance: {{ $context.Release.Name | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Beginning of `metadata` in the release's namespace: (list CONTEXT COMPONENT NAME ANNOTATIONS LABELS), the last two as
needed. */}}
{{- define "krypton.metadata" -}}
namespace: {{ (index . 0).Release.Namespace }}
{{ include "krypton.clusterMetadata" . }}
{{- end }}

{{/* The same for what is in no namespace, or in another. */}}
{{- define "krypton.clusterMetadata" -}}
name: {{ index . 2 }}
labels:
  {{- include "krypton.labels" . | nindent 2 }}
{{- $more := dict -}}
{{- if gt (len .) 3 }}{{ $more = index . 3 | default dict }}{{ end }}
{{- with merge (dict) $more ((index . 0).Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list CONTEXT IMAGE-VALUES NAME) */}}
{{- define "krypton.image" -}}
{{- $context := index . 0 -}}
{{- $own := index . 1 | default dict -}}
{{- $repository := $own.repository | default (printf "%s/%s" $context.Values.image.registry (index . 2)) -}}
{{- printf "%s:%s" $repository ($own.tag | default $context.Values.image.tag | default $context.Chart.AppVersion) -}}
{{- end }}

{{/* A duration like 1m30s in milliseconds. The schema has checked its form. */}}
{{- define "krypton.milliseconds" -}}
{{- $unit := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 -}}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | int64) (index $unit (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{/* The same in whole seconds, rounded up. */}}
{{- define "krypton.seconds" -}}
{{- div (add (include "krypton.milliseconds" . | int64) 999) 1000 -}}
{{- end }}

{{/* Conditions are "true" or empty. */}}
{{- define "krypton.selfSigned" -}}
{{- if and (eq .Values.certificates.source "self-signed") (include "krypton.hasCertificate" .) }}true{{ end -}}
{{- end }}
{{- define "krypton.certManager" -}}
{{- if and (eq .Values.certificates.source "cert-manager") (include "krypton.hasCertificate" .) }}true{{ end -}}
{{- end }}
{{- define "krypton.hasCertificate" -}}
{{- if or (not .Values.discovery.plaintext) .Values.manager.enableWebhooks }}true{{ end -}}
{{- end }}
{{- define "krypton.isFronted" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled }}true{{ end -}}
{{- end }}

{{/* The Secret that pods mount. Not one of the self-signed way, which is read over the API. */}}
{{- define "krypton.certificateSecret" -}}
{{- .Values.certificates.secretName | default (printf "%s-cert-manager" (include "krypton.fullname" .)) -}}
{{- end }}

{{- define "krypton.anyAddress" -}}
{{- ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") -}}
{{- end }}
