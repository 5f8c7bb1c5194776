{{/* Two settings of a proxy in front decide whether agents work: answers must not be buffered, and silence must be
allowed for longer than the slowest agent takes. Where each class has them, and what else would stop an agent's call:

ingress-nginx  Annotations. Answers pass by default; silence is cut after 60 s, uploads are stored, and limited to 1 MiB.
nginx          F5's. Annotations; WebSockets must be allowed. Uploads are buffered unless its ConfigMap or a snippet says
               proxy_request_buffering off: there is no annotation.
haproxy        Buffers nothing. Only timeout-server cuts silence. The two controllers of that name have a prefix each
               and do not read the other's.
traefik        Buffers nothing and never cuts the silence of an answer. Only its entry points cut requests that take
               longer than 60 s to be sent: uploads, and streams in both directions.
contour        Buffers nothing. Cuts answers, however alive, after 15 s unless told; cuts silence after 5 min, which only
               its own configuration can change. WebSockets must be allowed path by path.
envoy-gateway  Has no Ingress; see httproute.yaml.
generic        Unknown: what `annotations` say. */}}
{{- define "krypton.ingressAnnotations" -}}
{{- $seconds := include "krypton.seconds" .Values.ingress.readTimeout -}}
{{- $size := .Values.ingress.maxBodySize -}}
{{- if eq .Values.ingress.class "ingress-nginx" -}}
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-request-buffering: "off"
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-body-size: {{ $size | quote }}
{{- else if eq .Values.ingress.class "nginx" -}}
nginx.org/proxy-buffering: "False"
nginx.org/proxy-read-timeout: {{ $seconds }}s
nginx.org/proxy-send-timeout: {{ $seconds }}s
nginx.org/client-max-body-size: {{ $size | quote }}
nginx.org/websocket-services: {{ include "krypton.fullname" . }}-gateway
{{- else if eq .Values.ingress.class "haproxy" -}}
haproxy.org/timeout-server: {{ $seconds }}s
haproxy-ingress.github.io/timeout-server: {{ $seconds }}s
{{- else if eq .Values.ingress.class "contour" -}}
projectcontour.io/response-timeout: infinity
projectcontour.io/websocket-routes: /v1/agents
{{- end -}}
{{- end }}

{{/* What each class's controller calls its IngressClass when nobody says otherwise. */}}
{{- define "krypton.ingressClassName" -}}
{{- $usual := dict "ingress-nginx" "nginx" "nginx" "nginx" "haproxy" "haproxy" "traefik" "traefik" "contour" "contour" -}}
{{- .Values.ingress.className | default (get $usual .Values.ingress.class) -}}
{{- end }}

{{/* What callers, and clients that look for an agent's authorization server, ask for. */}}
{{- define "krypton.paths" -}}
- /v1/agents
- /.well-known/oauth-protected-resource/v1/agents
{{- end }}
