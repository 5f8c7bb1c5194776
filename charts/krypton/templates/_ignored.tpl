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
  "manager.enableScaler" "the controller always scales. Set spec.replicas of an Agent to pin its size."
  "manager.scalerIntervalMs" "the controller scales as soon as the load changes; there is no interval."
  "manager.scalerStableWindowMs" "how long a size is kept is up to each Agent: spec.scaleToZeroAfter."
  "gateway.maxBufferPerAgent" "how many calls may wait is bounded by the gateway itself; spec.concurrency of an Agent says how many run."
  "gateway.pollIntervalMs" "gateways are told of changes; nothing is polled."
  "gateway.defaultStartupTimeoutMs" "how long a call waits for a pod is up to each Agent: spec.startupTimeout, 30s unless set."
  "podMonitor.namespaceSelector" "agents' pods have no sidecar to be scraped; the PodMonitor is for the pods of this release." }}
{{- range $path, $way := $ways }}
{{- $key := splitList "." $path }}
{{- if hasKey (get $.Values (first $key)) (last $key) }}
- {{ printf "%s: %s" $path $way | quote }}
{{- end }}
{{- end }}
{{- end }}
