{{/* What both kinds of pods have in common. Each takes (list CONTEXT COMPONENT VALUES). */}}
{{- define "krypton.podMetadata" -}}
{{- $context := index . 0 -}}
{{- $values := index . 2 -}}
# Not the chart's version: a new one alone restarts nothing.
labels:
  {{- $ours := include "krypton.selectorLabels" . | fromYaml }}
  {{- toYaml (merge $ours ($values.podLabels | default dict) ($context.Values.commonLabels | default dict)) | nindent 2 }}
{{- with merge (dict) ($values.podAnnotations | default dict) ($context.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "krypton.podSpec" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 2 -}}
serviceAccountName: {{ include "krypton.fullname" $context }}-{{ $component }}
# Variables made from Services would be mistaken for flags: KRYPTON_…
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with $context.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $context.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "invalid" $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "krypton.selectorLabels" (list $context $component) | nindent 8 }}
  {{- end }}
{{- else if $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list CONTEXT IMAGE-VALUES NAME VALUES) */}}
{{- define "krypton.container" -}}
{{- $context := index . 0 -}}
{{- $own := index . 1 | default dict -}}
{{- $values := index . 3 -}}
image: {{ include "krypton.image" . | quote }}
imagePullPolicy: {{ $own.pullPolicy | default $context.Values.image.pullPolicy }}
{{- with $context.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* Flags that end every list of flags. */}}
{{- define "krypton.lastArgs" -}}
{{- $context := index . 0 -}}
- --log-level={{ $context.Values.log.level }}
- --log-format={{ $context.Values.log.format }}
{{- with $context.Values.denyCIDRs }}
- --deny-cidrs={{ join "," . }}
{{- end }}
{{- range (index . 1).extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
