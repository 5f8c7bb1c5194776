{{/* Keys of Krypton in Go that are set and mean nothing here, a sentence each. */}}
{{- define "krypton.ignored" -}}
{{- range $key, $_ := .Values.controlPlane }}
- {{ printf "controlPlane.%s: there is no control plane of its own. kubectl shows Agents and their status, kubectl krypton routes what the gateways have." $key | quote }}
{{- end }}
{{- range $key, $_ := .Values.postgres }}
- {{ printf "postgres.%s: there is no database: Agents and their status are the only store." $key | quote }}
{{- end }}
{{- $images := .Values.images | default dict }}
{{- if $images.controlPlane }}
- "images.controlPlane: there is no control plane of its own. The images are images.gateway and images.manager."
{{- end }}
{{- if $images.proxy }}
- "images.proxy: agents' pods have no sidecar. The images are images.gateway and images.manager."
{{- end }}
{{- $ways := dict
  "manager.enableScaler" "nothing scales by load yet: an Agent keeps its size. Set spec.replicas of an Agent to pin it."
  "manager.scalerIntervalMs" "nothing scales by load yet, and no interval is planned."
  "manager.scalerStableWindowMs" "nothing scales by load yet; how long a size is kept will be up to each Agent."
  "gateway.maxBufferPerAgent" "calls do not wait yet: each goes to a pod at once."
  "gateway.pollIntervalMs" "gateways are told of changes; nothing is polled."
  "gateway.defaultStartupTimeoutMs" "calls do not wait for a pod yet; how long they may will be each Agent's spec.startupTimeout."
  "podMonitor.namespaceSelector" "agents' pods have no sidecar to be scraped; the PodMonitor is for the pods of this release." }}
{{- range $path, $way := $ways }}
{{- $key := splitList "." $path }}
{{- if hasKey (get $.Values (first $key)) (last $key) }}
- {{ printf "%s: %s" $path $way | quote }}
{{- end }}
{{- end }}
{{- end }}
